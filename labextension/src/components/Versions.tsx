import * as React from 'react';

import { RequestProblem } from '../api/client';
import type { IPrompt, IVersion } from '../api/types';
import type { IActions } from '../models/actions';
import { diffSnippet, promptSnippet } from '../models/snippets';
import { Aliases } from './Badges';
import { LineButton } from './Line';
import { Notice } from './Notice';
import { RelativeTime } from './RelativeTime';
import { Skeleton } from './Skeleton';

export interface IVersionsProps {
  prompt: IPrompt;
  actions: IActions;
}

/** The versions of a prompt, folded at first: who saved which, when, and which aliases point to it. */
export function Versions(props: IVersionsProps): React.JSX.Element {
  const [open, setOpen] = React.useState(false);
  const { version } = props.prompt;
  return (
    <>
      <button
        type="button"
        className="jp-LLMOps-fold"
        aria-expanded={open}
        onClick={() => setOpen(!open)}
      >
        {open ? 'Hide the versions' : `Show all ${version} versions`}
      </button>
      {open && <VersionList {...props} />}
    </>
  );
}

function VersionList({ prompt, actions }: IVersionsProps): React.JSX.Element {
  const [read, retry] = useVersions(prompt, actions.versions);
  if (read instanceof RequestProblem) {
    return (
      <Notice tone="error" title={read.message} onRetry={retry}>
        {read.hint && <p>{read.hint}</p>}
      </Notice>
    );
  }
  if (read === null) {
    return <Skeleton rows={Math.min(prompt.version, 4)} lines={1} />;
  }
  return (
    <ol className="jp-LLMOps-versions">
      {read.map(one => (
        <li key={one.version} data-version={one.version} title={one.digest}>
          <span className="jp-LLMOps-version">v{one.version}</span>
          <Aliases aliases={one.aliases.map(text => ({ text, title: `Alias: ${text}` }))} />
          <span className="jp-LLMOps-rowText" title={one.created_by}>
            {one.created_by}
          </span>
          <span className="jp-LLMOps-number">
            <RelativeTime moment={one.created_at} />
          </span>
          {one.version !== prompt.version && (
            <DiffButton prompt={prompt} version={one.version} insert={actions.insertCell} />
          )}
          <LineButton source={promptSnippet(prompt, one.version)} insert={actions.insertCell} />
        </li>
      ))}
    </ol>
  );
}

/** Puts the line into the notebook that shows what changed from a version to the newest. */
function DiffButton(props: { prompt: IPrompt; version: number; insert: IActions['insertCell'] }) {
  const { prompt, version, insert } = props;
  if (!insert) {
    return null;
  }
  const source = diffSnippet(prompt.name, version, prompt.version);
  return (
    <button
      type="button"
      className="jp-LLMOps-fold"
      title={`Insert "${source}" as a new cell`}
      aria-label={`Compare version ${version} with version ${prompt.version}`}
      onClick={() => void insert(source)}
    >
      diff
    </button>
  );
}

/** The versions, read anew whenever the prompt got another one or an alias moved. */
function useVersions(
  prompt: IPrompt,
  versions: IActions['versions']
): [IVersion[] | RequestProblem | null, () => void] {
  const [read, setRead] = React.useState<IVersion[] | RequestProblem | null>(null);
  const [attempt, setAttempt] = React.useState(0);
  const { name, version } = prompt;
  const isPrivate = prompt.private;
  const aliases = JSON.stringify(prompt.aliases);
  React.useEffect(() => {
    let current = true;
    versions({ name, private: isPrivate }).then(
      found => current && setRead(found),
      (error: unknown) =>
        current &&
        setRead(
          error instanceof RequestProblem ? error : new RequestProblem('failed', String(error))
        )
    );
    return () => {
      current = false;
    };
  }, [versions, name, isPrivate, version, aliases, attempt]);
  return [read, () => setAttempt(attempt + 1)];
}
