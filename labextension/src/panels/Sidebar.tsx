import * as React from 'react';

import { Notice, Snippet } from '../components/Notice';
import type { IActions } from '../models/actions';
import type { ISnapshot, LiveState } from '../models/live';
import { CollectionsSection } from './CollectionsSection';
import { GpusSection } from './GpusSection';
import { Header } from './Header';
import { ModelsSection } from './ModelsSection';
import { PromptsSection } from './PromptsSection';
import { RunsSection } from './RunsSection';

export interface ISidebarProps {
  live: LiveState;
  actions: IActions;
}

/** The whole sidebar. */
export function Sidebar({ live, actions }: ISidebarProps): React.JSX.Element {
  const snapshot = useSnapshot(live);
  const [filter, setFilter] = React.useState('');
  return (
    <>
      <Header
        snapshot={snapshot}
        filter={filter}
        onFilter={setFilter}
        onRefresh={actions.refresh}
      />
      <div className="jp-LLMOps-content" aria-busy={snapshot.connection === 'connecting'}>
        <Troubles snapshot={snapshot} onRetry={actions.refresh} />
        {hasContent(snapshot) && (
          <>
            <GpusSection reading={snapshot.gpus} onRetry={actions.refresh} />
            <ModelsSection
              reading={snapshot.models}
              filter={filter}
              site={snapshot.status.value?.site ?? ''}
              onRetry={actions.refresh}
            />
            <PromptsSection reading={snapshot.prompts} filter={filter} actions={actions} />
            <CollectionsSection reading={snapshot.collections} filter={filter} actions={actions} />
            <RunsSection reading={snapshot.runs} filter={filter} onRetry={actions.refresh} />
          </>
        )}
      </div>
    </>
  );
}

/** Without an answer of the server there is nothing to list, and empty lists would say less. */
function hasContent(snapshot: ISnapshot): boolean {
  if (snapshot.connection === 'missing') {
    return false;
  }
  return snapshot.connection !== 'lost' || snapshot.gpus.value !== null;
}

function Troubles({ snapshot, onRetry }: { snapshot: ISnapshot; onRetry: () => void }) {
  const { problem, value } = snapshot.status;
  if (problem?.kind === 'missing') {
    return <MissingServer onRetry={onRetry} />;
  }
  if (problem) {
    return (
      <Notice tone="error" title={problem.message} onRetry={onRetry}>
        {problem.hint && <p>{problem.hint}</p>}
        {snapshot.gpus.value && <p>What you see below was read before.</p>}
      </Notice>
    );
  }
  if (value?.catalog.problem) {
    return (
      <Notice tone="warning" title="The catalog has a problem">
        <p>{value.catalog.problem}</p>
      </Notice>
    );
  }
  return null;
}

function MissingServer({ onRetry }: { onRetry: () => void }): React.JSX.Element {
  return (
    <Notice tone="error" title="The server part of LLMOps is not running" onRetry={onRetry}>
      <p>
        The sidebar is installed, but this Jupyter server runs without its extension. In a terminal,
        type
      </p>
      <Snippet text="jupyter server extension enable jupyter_llmops" />
      <p>and start Jupyter again. To check, type</p>
      <Snippet text="jupyter server extension list" />
      <p>
        which should say <code>jupyter_llmops OK</code>. If it does not, install the package where
        the server runs, not only where the kernel runs.
      </p>
    </Notice>
  );
}

function useSnapshot(live: LiveState): ISnapshot {
  const subscribe = React.useCallback(
    (listener: () => void) => {
      live.changed.connect(listener);
      return () => {
        live.changed.disconnect(listener);
      };
    },
    [live]
  );
  return React.useSyncExternalStore(subscribe, () => live.snapshot);
}
