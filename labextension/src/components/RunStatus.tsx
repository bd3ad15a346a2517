import { LabIcon } from '@jupyterlab/ui-components';
import * as React from 'react';

import type { RunStatus as Status } from '../api/types';
import { doneIcon, failedIcon, stoppedIcon } from './icons';

const SHOWN: Record<Status, { word: string; icon: LabIcon }> = {
  ok: { word: 'ok', icon: doneIcon },
  error: { word: 'error', icon: failedIcon },
  interrupted: { word: 'stopped', icon: stoppedIcon }
};

/** How a run ended, by icon and by word. */
export function RunStatus({ status }: { status: Status }): React.JSX.Element {
  const { word, icon } = SHOWN[status];
  return (
    <span className={`jp-LLMOps-status jp-mod-${status}`}>
      <icon.react tag="span" width="12px" height="12px" aria-hidden="true" />
      {word}
    </span>
  );
}
