import * as React from 'react';

import type { IReading } from '../models/reader';
import { Notice } from './Notice';
import { Skeleton } from './Skeleton';

export interface IRecordListProps<T> {
  reading: IReading<T[]>;
  /** Those of the records that the filter lets pass. */
  shown: readonly T[];
  /** Those of them that were taken out of the lists; shown on request, after the others. */
  retired?: readonly T[];
  /** How many are shown before "Show all". */
  limit: number;
  /** Plural noun, for "Show all 12 prompts". */
  noun: string;
  keyOf: (record: T) => string;
  render: (record: T, fresh: boolean) => React.JSX.Element;
  /** What to type to fill the list. */
  empty: React.ReactNode;
  /** Lines of a row, for the skeleton. */
  lines: number;
  onRetry: () => void;
}

/** A list of records and its other states: loading, failed, empty, filtered to nothing. */
export function RecordList<T>(props: IRecordListProps<T>): React.JSX.Element {
  const [all, setAll] = React.useState(false);
  const [withRetired, setWithRetired] = React.useState(false);
  const isFresh = useFresh(props.reading.value, props.keyOf);
  const { value, problem } = props.reading;
  if (value === null) {
    return problem ? (
      <Notice tone="error" title={problem.message} onRetry={props.onRetry}>
        {problem.hint && <p>{problem.hint}</p>}
      </Notice>
    ) : (
      <Skeleton rows={3} lines={props.lines} />
    );
  }
  const retired = props.retired ?? [];
  const listed = all ? props.shown : props.shown.slice(0, props.limit);
  const visible = withRetired ? [...listed, ...retired] : listed;
  const hidden = props.shown.length - props.limit;
  return (
    <>
      {problem && (
        <Notice tone="warning" title={`Not up to date: ${problem.message}`} onRetry={props.onRetry}>
          {problem.hint && <p>{problem.hint}</p>}
        </Notice>
      )}
      {value.length === 0 && <div className="jp-LLMOps-empty">{props.empty}</div>}
      {value.length > 0 && visible.length === 0 && (
        <div className="jp-LLMOps-empty">
          {retired.length > 0
            ? `No ${props.noun} but retired ones.`
            : `No ${props.noun} match the filter.`}
        </div>
      )}
      <ul className="jp-LLMOps-list">
        {visible.map(record => {
          const key = props.keyOf(record);
          return <React.Fragment key={key}>{props.render(record, isFresh(key))}</React.Fragment>;
        })}
      </ul>
      {hidden > 0 && (
        <button type="button" className="jp-LLMOps-more" onClick={() => setAll(!all)}>
          {all ? 'Show fewer' : `Show all ${props.shown.length} ${props.noun}`}
        </button>
      )}
      {retired.length > 0 && (
        <button
          type="button"
          className="jp-LLMOps-more"
          aria-pressed={withRetired}
          onClick={() => setWithRetired(!withRetired)}
        >
          {withRetired ? 'Hide retired' : `Show ${retired.length} retired`}
        </button>
      )}
    </>
  );
}

/** Tell which keys came after the first list was shown. */
function useFresh<T>(value: T[] | null, keyOf: (record: T) => string): (key: string) => boolean {
  const first = React.useRef<Set<string> | null>(null);
  if (first.current === null && value !== null) {
    first.current = new Set(value.map(keyOf));
  }
  return key => first.current !== null && !first.current.has(key);
}
