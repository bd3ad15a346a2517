import * as React from 'react';

import { UNKNOWN, shortDigest } from '../models/formats';
import { CopyButton } from './CopyButton';
import { RelativeTime } from './RelativeTime';

/** Facts under an opened row; a fact that is empty is left out. */
export function Facts(props: { facts: readonly (readonly [string, React.ReactNode])[] }) {
  return (
    <dl className="jp-LLMOps-facts">
      {props.facts
        .filter(([, value]) => value !== '' && value !== null && value !== undefined)
        .map(([name, value]) => (
          <React.Fragment key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </React.Fragment>
        ))}
    </dl>
  );
}

/** Who made a record, and when. */
export function Made({ by, at }: { by: string; at: string | null }): React.JSX.Element {
  return (
    <>
      <RelativeTime moment={at} />
      {by && ` by ${by}`}
    </>
  );
}

/** The beginning of a digest, the whole on hover and to copy. */
export function Digest({ digest }: { digest: string }): React.JSX.Element {
  return digest ? (
    <span className="jp-LLMOps-copyable jp-LLMOps-digest">
      <code title={digest}>{shortDigest(digest)}</code>
      <CopyButton text={digest} label="the digest" />
    </span>
  ) : (
    <span title="Its files were not read yet">{UNKNOWN}</span>
  );
}
