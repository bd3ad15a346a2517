import * as React from 'react';

import type { IShared } from '../api/types';

const MOST = 2;

export interface IBadge {
  text: string;
  /** What it means, for the tooltip. */
  title: string;
}

/** The aliases that point to a record: two of them, and how many more there are. */
export function Aliases({ aliases }: { aliases: readonly IBadge[] }): React.JSX.Element | null {
  if (aliases.length === 0) {
    return null;
  }
  const more = aliases.slice(MOST);
  return (
    <span className="jp-LLMOps-badges">
      {aliases.slice(0, MOST).map(({ text, title }) => (
        <span className="jp-LLMOps-alias" key={text} title={title}>
          <bdi>{text}</bdi>
        </span>
      ))}
      {more.length > 0 && (
        <span className="jp-LLMOps-moreAliases" title={more.map(alias => alias.text).join(', ')}>
          +{more.length}
        </span>
      )}
    </span>
  );
}

/** What a reader should know of a record beside its name: that it is theirs alone, that it is retired. */
export function Marks(props: Pick<IShared, 'private' | 'retired'>): React.JSX.Element {
  return (
    <>
      {props.private && (
        <span
          className="jp-LLMOps-tag"
          title="In your own catalog: nobody else sees it until you publish it"
        >
          yours
        </span>
      )}
      {props.retired && (
        <span className="jp-LLMOps-tag" title="Out of the lists, still usable by name">
          retired
        </span>
      )}
    </>
  );
}

/** The name of a record; its direction of writing stays its own. */
export function Name({ name }: { name: string }): React.JSX.Element {
  return (
    <bdi className="jp-LLMOps-name" title={name}>
      {name}
    </bdi>
  );
}
