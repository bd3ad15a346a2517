import { LabIcon } from '@jupyterlab/ui-components';
import * as React from 'react';

export interface IIconButtonProps {
  icon: LabIcon;
  /** What it does, for the tooltip and for screen readers. */
  label: string;
  onClick: () => void;
  className?: string;
}

/** A small button that shows an icon and says what it does. */
export function IconButton(props: IIconButtonProps): React.JSX.Element {
  return (
    <button
      type="button"
      className={`jp-LLMOps-iconButton ${props.className ?? ''}`}
      title={props.label}
      aria-label={props.label}
      onClick={props.onClick}
    >
      <props.icon.react tag="span" width="14px" height="14px" />
    </button>
  );
}
