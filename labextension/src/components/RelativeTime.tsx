import * as React from 'react';

import { useNow } from '../models/clock';
import { ago, exact } from '../models/formats';

/** `2 min ago`, with the exact time on hover; `moment` is ISO 8601. */
export function RelativeTime({ moment }: { moment: string | null }): React.JSX.Element {
  const now = useNow();
  return (
    <time className="jp-LLMOps-time" dateTime={moment ?? undefined} title={exact(moment)}>
      {ago(moment, Math.max(now, Date.now()))}
    </time>
  );
}
