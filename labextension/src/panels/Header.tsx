import { refreshIcon } from '@jupyterlab/ui-components';
import * as React from 'react';

import { IconButton } from '../components/IconButton';
import { duration, shortPath } from '../models/formats';
import type { ICatalog } from '../api/types';
import type { Connection, ISnapshot } from '../models/live';

const CONNECTIONS: Record<Connection, { word: string; explained: string }> = {
  connecting: { word: 'Connecting', explained: 'The server has not answered yet.' },
  live: { word: 'Live', explained: 'Changes show here as they happen.' },
  missing: { word: 'Not enabled', explained: 'The server extension is missing.' },
  lost: { word: 'Lost', explained: 'The server does not answer; trying again.' }
};

export interface IHeaderProps {
  snapshot: ISnapshot;
  filter: string;
  onFilter: (filter: string) => void;
  onRefresh: () => void;
}

/** Which catalog this is, whether it is live, and the filter over all that is listed. */
export function Header(props: IHeaderProps): React.JSX.Element {
  const { connection, status } = props.snapshot;
  const { word, explained } = CONNECTIONS[connection];
  const catalog = status.value?.catalog;
  return (
    <header className="jp-LLMOps-header">
      <div className="jp-LLMOps-headerLine">
        <h2 className="jp-LLMOps-title">LLMOps</h2>
        <span
          className={`jp-LLMOps-connection jp-mod-${connection}`}
          role="status"
          title={explained}
        >
          <span className="jp-LLMOps-dot" aria-hidden="true" />
          {word}
        </span>
        <IconButton icon={refreshIcon} label="Read everything now" onClick={props.onRefresh} />
      </div>
      <div className="jp-LLMOps-catalog" title={catalog ? explain(catalog) : undefined}>
        {catalog && <span className="jp-LLMOps-catalogLabel">Catalog</span>}
        <bdi className="jp-LLMOps-catalogPath">{catalog ? shortPath(catalog.path) : ''}</bdi>
        {catalog && !catalog.writable && !catalog.problem && (
          <span className="jp-LLMOps-tag" title="Prompts can be used, not saved.">
            read-only
          </span>
        )}
      </div>
      <input
        type="search"
        className="jp-LLMOps-filter"
        placeholder="Filter the lists below"
        aria-label="Filter models, prompts, collections and runs"
        title="Every word must be found: a name, an alias, a tag, a kind, a status, a notebook, a text"
        spellCheck={false}
        value={props.filter}
        onChange={event => props.onFilter(event.target.value)}
        onKeyDown={event => {
          if (event.key === 'Escape' && props.filter) {
            event.stopPropagation();
            props.onFilter('');
          }
        }}
      />
    </header>
  );
}

/** The whole address of the catalog, where the user's own is, and how soon others' changes show. */
function explain(catalog: ICatalog): string {
  const lines = [
    `Catalog: ${catalog.path}`,
    catalog.own === catalog.path ? 'Nobody else sees it.' : `Your own: ${catalog.own}`,
    `What others change shows within ${duration(catalog.fresh_within_seconds)}.`
  ];
  return lines.join('\n');
}
