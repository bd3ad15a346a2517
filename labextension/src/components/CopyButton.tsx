import { Clipboard } from '@jupyterlab/apputils';
import { copyIcon } from '@jupyterlab/ui-components';
import * as React from 'react';

import { IconButton } from './IconButton';
import { doneIcon } from './icons';

const SHOWN_FOR = 1_500;

export interface ICopyButtonProps {
  text: string;
  /** What is copied, for example `the model's name`. */
  label: string;
}

/** Copies a text and says so for a moment, in place. */
export function CopyButton({ text, label }: ICopyButtonProps): React.JSX.Element {
  const [copied, setCopied] = React.useState(false);
  React.useEffect(() => {
    if (!copied) {
      return;
    }
    const timer = window.setTimeout(() => setCopied(false), SHOWN_FOR);
    return () => window.clearTimeout(timer);
  }, [copied]);
  const copy = () => {
    // Works without the secure context that navigator.clipboard asks for.
    Clipboard.copyToSystem(text);
    setCopied(true);
  };
  return (
    <>
      <IconButton
        icon={copied ? doneIcon : copyIcon}
        label={copied ? 'Copied' : `Copy ${label}`}
        className={copied ? 'jp-mod-done' : ''}
        onClick={copy}
      />
      <span className="jp-LLMOps-spoken" role="status">
        {copied ? 'Copied' : ''}
      </span>
    </>
  );
}
