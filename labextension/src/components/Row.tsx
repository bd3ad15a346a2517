import * as React from 'react';

export interface IRowProps {
  /** The first line: name on the left, a fact on the right. */
  title: React.ReactNode;
  aside?: React.ReactNode;
  /** Further lines, each of one line's height. */
  lines: readonly React.ReactNode[];
  /** Buttons that stay where they are whether the row is open or not. */
  actions?: React.ReactNode;
  /** Shown when the row is opened. */
  details: React.ReactNode;
  /** Lights up for a moment: it arrived while the reader looked. */
  fresh?: boolean;
  className?: string;
  /** Names the row for tests and for people who inspect it. */
  id: string;
}

/** One record of a list; a click, Enter or the arrow keys show more of it. */
export function Row(props: IRowProps): React.JSX.Element {
  const [open, setOpen] = React.useState(false);
  return (
    <li
      className={`jp-LLMOps-row ${props.className ?? ''} ${props.fresh ? 'jp-mod-fresh' : ''}`}
      data-row={props.id}
    >
      <div className="jp-LLMOps-rowHead">
        <button
          type="button"
          className="jp-LLMOps-rowButton"
          aria-expanded={open}
          onClick={() => setOpen(!open)}
          onKeyDown={event => onArrow(event)}
        >
          <span className="jp-LLMOps-rowTitle">
            <span className="jp-LLMOps-rowName">{props.title}</span>
            {props.aside !== undefined && <span className="jp-LLMOps-rowAside">{props.aside}</span>}
          </span>
          {props.lines.map((line, index) => (
            <span className="jp-LLMOps-rowLine" key={index}>
              {line}
            </span>
          ))}
        </button>
        {props.actions && <span className="jp-LLMOps-rowActions">{props.actions}</span>}
      </div>
      {open && <div className="jp-LLMOps-rowDetails">{props.details}</div>}
    </li>
  );
}

function onArrow(event: React.KeyboardEvent<HTMLButtonElement>): void {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!step) {
    return;
  }
  const panel = event.currentTarget.closest('.jp-LLMOps');
  const buttons = [...(panel?.querySelectorAll<HTMLElement>('.jp-LLMOps-rowButton') ?? [])];
  const next = buttons[buttons.indexOf(event.currentTarget) + step];
  if (next) {
    event.preventDefault();
    next.focus();
  }
}
