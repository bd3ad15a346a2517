import { addBelowIcon } from '@jupyterlab/ui-components';
import * as React from 'react';

import type { IActions } from '../models/actions';
import { CopyButton } from './CopyButton';
import { IconButton } from './IconButton';

export interface ILineProps {
  /** What is put into the new cell. */
  source: string;
  insert: IActions['insertCell'];
}

/** A button that puts a line into the notebook, or copies it where the page has no notebooks. */
export function LineButton({ source, insert }: ILineProps): React.JSX.Element {
  const [first = ''] = source.split('\n');
  return insert ? (
    <IconButton
      icon={addBelowIcon}
      label={`Insert "${first}" as a new cell`}
      onClick={() => void insert(source)}
    />
  ) : (
    <CopyButton text={source} label={`"${first}"`} />
  );
}

/** A line to type, shown, with the button that saves the typing. */
export function Line(props: ILineProps): React.JSX.Element {
  return (
    <span className="jp-LLMOps-snippet">
      <code>{props.source.split('\n')[0]}</code>
      <LineButton {...props} />
    </span>
  );
}
