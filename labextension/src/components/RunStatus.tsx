import { LabIcon } from '@jupyterlab/ui-components';
import * as React from 'react';

import type { RunStatus } from '../api/types';
import { doneIcon, failedIcon, stoppedIcon } from './icons';

const ICONS: Record<RunStatus, LabIcon> = {
  ok: doneIcon,
  error: failedIcon,
  interrupted: stoppedIcon
};

/** How a run ended, as an icon; the word stands elsewhere in the row, so this one is not spoken. */
export function RunStatusIcon({ status }: { status: RunStatus }): React.JSX.Element {
  const Icon = (ICONS[status] ?? stoppedIcon).react;
  return (
    <Icon
      tag="span"
      className={`jp-LLMOps-status jp-mod-${status}`}
      width="12px"
      height="12px"
      aria-hidden="true"
    />
  );
}
