import { LabIcon, infoIcon } from '@jupyterlab/ui-components';
import * as React from 'react';

import { CopyButton } from './CopyButton';
import { warningIcon } from './icons';

export interface INoticeProps {
  tone: 'info' | 'warning' | 'error';
  title: string;
  children?: React.ReactNode;
  onRetry?: () => void;
}

const ICONS: Record<INoticeProps['tone'], LabIcon> = {
  info: infoIcon,
  warning: warningIcon,
  error: warningIcon
};

/** Something the reader should know: an icon, one sentence, and what to do. */
export function Notice(props: INoticeProps): React.JSX.Element {
  const Icon = ICONS[props.tone].react;
  return (
    <div
      className={`jp-LLMOps-notice jp-mod-${props.tone}`}
      role={props.tone === 'error' ? 'alert' : 'note'}
    >
      <Icon
        tag="span"
        className="jp-LLMOps-noticeIcon"
        width="16px"
        height="16px"
        aria-hidden="true"
      />
      <div className="jp-LLMOps-noticeBody">
        <div className="jp-LLMOps-noticeTitle">{props.title}</div>
        {props.children}
        {props.onRetry && (
          <button type="button" className="jp-LLMOps-button" onClick={props.onRetry}>
            Retry
          </button>
        )}
      </div>
    </div>
  );
}

/** A command or a line of code to type, with a button that copies it. */
export function Snippet({ text }: { text: string }): React.JSX.Element {
  return (
    <span className="jp-LLMOps-snippet">
      <code>{text}</code>
      <CopyButton text={text} label={text} />
    </span>
  );
}
