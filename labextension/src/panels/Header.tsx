import { refreshIcon } from '@jupyterlab/ui-components';
import * as React from 'react';

import { IconButton } from '../components/IconButton';
import { shortPath } from '../models/formats';
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

/** Which catalog this is, whether it is live, and the filter over models, prompts and runs. */
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
      <div className="jp-LLMOps-catalog" title={catalog ? `Catalog: ${catalog.path}` : undefined}>
        {catalog && <span className="jp-LLMOps-catalogLabel">Catalog</span>}
        <span className="jp-LLMOps-catalogPath">{catalog ? shortPath(catalog.path) : ''}</span>
        {catalog && !catalog.writable && !catalog.problem && (
          <span className="jp-LLMOps-tag" title="Prompts can be used, not saved.">
            read-only
          </span>
        )}
      </div>
      <input
        type="search"
        className="jp-LLMOps-filter"
        placeholder="Filter models, prompts, runs"
        aria-label="Filter models, prompts and runs"
        title="Every word must be found: a name, a kind, a status, a notebook, a text"
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
