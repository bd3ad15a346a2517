import { LabIcon } from '@jupyterlab/ui-components';
import * as React from 'react';

import { CopyButton } from './CopyButton';
import { infoIcon, warningIcon } from './icons';

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

export interface IFoldedNoticeProps {
  tone: 'info' | 'warning';
  title: string;
  text: string;
}

/** A notice whose text can be folded away; information is folded at first, a warning is open. */
export function FoldedNotice({ tone, title, text }: IFoldedNoticeProps): React.JSX.Element {
  const Icon = ICONS[tone].react;
  return (
    <details className={`jp-LLMOps-folded jp-mod-${tone}`} open={tone === 'warning'}>
      <summary title={text}>
        <Icon
          tag="span"
          className="jp-LLMOps-noticeIcon"
          width="16px"
          height="16px"
          aria-hidden="true"
        />
        {title}
      </summary>
      <p>{text}</p>
    </details>
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
