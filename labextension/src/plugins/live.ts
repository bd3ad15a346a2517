import { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';

import { LiveState } from '../models/live';
import { ILiveState } from '../tokens';

const DEFAULT_POLL = 10;

/** Keeps what this page knows of the server fresh. */
export const livePlugin: JupyterFrontEndPlugin<LiveState> = {
  id: 'jupyter-llmops:live',
  description: 'Reads the LLMOps state of the server and follows its changes.',
  autoStart: true,
  provides: ILiveState,
  activate: (app: JupyterFrontEnd) =>
    new LiveState({
      serverSettings: app.serviceManager.serverSettings,
      events: app.serviceManager.events,
      pollSeconds: DEFAULT_POLL
    })
};
