import { Token } from '@lumino/coreutils';

import type { LiveState } from './models/live';

/** The server's state as this page knows it. */
export const ILiveState = new Token<LiveState>(
  'jupyter-llmops:ILiveState',
  'The LLMOps state of the server: GPUs, models, prompts, collections and runs, kept fresh.'
);

/** Ids of the commands. */
export const CommandIDs = {
  open: 'jupyter-llmops:open',
  refresh: 'jupyter-llmops:refresh',
  insert: 'jupyter-llmops:insert-cell'
} as const;

/** Id of the sidebar's widget. */
export const SIDEBAR_ID = 'jupyter-llmops-sidebar';
