import * as React from 'react';

/** Grey rows of the height that the real ones will have. */
export function Skeleton({ rows, lines }: { rows: number; lines: number }): React.JSX.Element {
  return (
    <ul className="jp-LLMOps-list" aria-busy="true" aria-label="Loading">
      {Array.from({ length: rows }, (_, row) => (
        <li className="jp-LLMOps-row jp-mod-skeleton" key={row} aria-hidden="true">
          {Array.from({ length: lines }, (_, line) => (
            <span className="jp-LLMOps-skeletonLine" key={line}>
              <span style={{ width: `${line === 0 ? 55 : 85 - 15 * row}%` }} />
            </span>
          ))}
        </li>
      ))}
    </ul>
  );
}
