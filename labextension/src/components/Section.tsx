import { caretDownIcon } from '@jupyterlab/ui-components';
import * as React from 'react';

import { keep, recall } from '../models/memory';
import { Boundary } from './Boundary';

export interface ISectionProps {
  /** Key under which its state is remembered, and part of its ids. */
  name: string;
  title: string;
  /** What stands behind the title: "12", or "3 of 12" while a filter is on; empty while loading. */
  count: string;
  /** Nothing was read yet: the place that the section took last time is kept free. */
  loading: boolean;
  children: React.ReactNode;
}

/** A part of the sidebar that opens and closes, and remembers which. */
export function Section(props: ISectionProps): React.JSX.Element {
  const { name, title, count, loading, children } = props;
  const key = `section.${name}.open`;
  const [open, setOpen] = React.useState<boolean>(() => recall<boolean>(key, true));
  const body = useRememberedHeight(`section.${name}.height`, loading, open);
  const id = `jp-LLMOps-${name}`;
  const toggle = () => {
    keep(key, !open);
    setOpen(!open);
  };
  return (
    <section className="jp-LLMOps-section" data-section={name} aria-labelledby={`${id}-title`}>
      <h3 className="jp-LLMOps-sectionTitle">
        <button
          type="button"
          id={`${id}-title`}
          aria-expanded={open}
          aria-controls={`${id}-body`}
          onClick={toggle}
        >
          <caretDownIcon.react
            tag="span"
            className={`jp-LLMOps-caret ${open ? '' : 'jp-mod-closed'}`}
            width="16px"
            height="16px"
            aria-hidden="true"
          />
          <span>{title}</span>
          <span className="jp-LLMOps-count">{count}</span>
        </button>
      </h3>
      <div
        id={`${id}-body`}
        ref={body.ref}
        style={{ height: body.height }}
        className="jp-LLMOps-sectionBody"
        hidden={!open}
      >
        {open && <Boundary what={title}>{children}</Boundary>}
      </div>
    </section>
  );
}

/** While loading, the height that the section had when it was last filled; then its own. */
function useRememberedHeight(key: string, loading: boolean, open: boolean) {
  const ref = React.useRef<HTMLDivElement>(null);
  const [height] = React.useState<number>(() => recall<number>(key, 0));
  React.useEffect(() => {
    const now = ref.current?.offsetHeight ?? 0;
    if (!loading && open && now > 0) {
      keep(key, now);
    }
  });
  return { ref, height: loading && open && height > 0 ? height : undefined };
}
