import * as React from 'react';

import { RequestProblem } from '../api/client';
import type { ICollection, IPassage } from '../api/types';
import type { IActions } from '../models/actions';
import { Notice } from './Notice';

export interface IPassageSearchProps {
  collection: ICollection;
  search: IActions['search'];
}

type Result = { words: string; found: IPassage[] } | RequestProblem | null;

/** A look into a collection by words; meaning is compared in the notebook, where the encoder is. */
export function PassageSearch({ collection, search }: IPassageSearchProps): React.JSX.Element {
  const [words, setWords] = React.useState('');
  const [result, setResult] = React.useState<Result>(null);
  const [busy, setBusy] = React.useState(false);
  const look = async () => {
    if (busy || !words.trim()) {
      return;
    }
    setBusy(true);
    try {
      setResult({ words, found: await search(collection, words) });
    } catch (error) {
      setResult(
        error instanceof RequestProblem ? error : new RequestProblem('failed', String(error))
      );
    }
    setBusy(false);
  };
  return (
    <>
      <form
        className="jp-LLMOps-search"
        onSubmit={event => {
          event.preventDefault();
          void look();
        }}
      >
        <input
          type="search"
          className="jp-LLMOps-filter"
          placeholder="Words to look for"
          aria-label={`Words to look for in ${collection.name}`}
          title="Finds passages that hold these words; %search in a notebook compares meaning, too"
          spellCheck={false}
          value={words}
          onChange={event => {
            setWords(event.target.value);
            if (!event.target.value) {
              setResult(null);
            }
          }}
        />
        <button type="submit" className="jp-LLMOps-button" disabled={busy}>
          Search
        </button>
      </form>
      <div role="status" aria-busy={busy}>
        <Results result={result} onRetry={() => void look()} />
      </div>
    </>
  );
}

function Results(props: { result: Result; onRetry: () => void }): React.JSX.Element | null {
  const { result, onRetry } = props;
  if (result === null) {
    return null;
  }
  if (result instanceof RequestProblem) {
    return (
      <Notice tone="error" title={result.message} onRetry={onRetry}>
        {result.hint && <p>{result.hint}</p>}
      </Notice>
    );
  }
  if (result.found.length === 0) {
    return <p className="jp-LLMOps-says">No passage holds these words.</p>;
  }
  return (
    <ol className="jp-LLMOps-passages">
      {result.found.map(passage => (
        <li key={passage.id} data-passage={passage.document}>
          <span className="jp-LLMOps-label">
            <bdi>{passage.document}</bdi> {passage.start}–{passage.end}
          </span>
          <span className="jp-LLMOps-passageText" title={passage.text}>
            {passage.text}
          </span>
        </li>
      ))}
    </ol>
  );
}
