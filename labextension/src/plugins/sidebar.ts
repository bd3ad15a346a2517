import {
  ILabShell,
  ILayoutRestorer,
  JupyterFrontEnd,
  JupyterFrontEndPlugin
} from '@jupyterlab/application';
import { INotebookTracker } from '@jupyterlab/notebook';
import { ISettingRegistry } from '@jupyterlab/settingregistry';

import type { LiveState } from '../models/live';
import { SidebarWidget } from '../panels/widget';
import { CommandIDs, ILiveState, SIDEBAR_ID } from '../tokens';

type Side = 'left' | 'right';

const ID = 'jupyter-llmops:sidebar';
const RANK = 350;

/** Puts the sidebar into the shell and follows its settings. */
export const sidebarPlugin: JupyterFrontEndPlugin<void> = {
  id: ID,
  description: 'The LLMOps sidebar: GPUs, models, prompts, collections and runs.',
  autoStart: true,
  requires: [ILiveState],
  optional: [ILabShell, ILayoutRestorer, ISettingRegistry, INotebookTracker],
  activate: async (
    app: JupyterFrontEnd,
    live: LiveState,
    labShell: ILabShell | null,
    restorer: ILayoutRestorer | null,
    registry: ISettingRegistry | null,
    notebooks: INotebookTracker | null
  ) => {
    const widget = new SidebarWidget(live, {
      insertCell: notebooks
        ? async source => {
            await app.commands.execute(CommandIDs.insert, { source });
          }
        : null,
      refresh: () => void app.commands.execute(CommandIDs.refresh),
      versions: prompt => live.versions(prompt),
      search: (collection, words) => live.search(collection, words)
    });
    // Before the first await: the restorer knows only what is added before it restores.
    restorer?.add(widget, SIDEBAR_ID);

    let side: Side | null = null;
    const place = (wanted: Side) => {
      if (side !== wanted) {
        const shown = side !== null && widget.isVisible;
        app.shell.add(widget, wanted, { rank: RANK, type: 'LLMOps' });
        side = wanted;
        if (shown) {
          labShell?.activateById(SIDEBAR_ID);
        }
      }
    };

    const follow = (settings: ISettingRegistry.ISettings) => {
      live.pollSeconds = settings.get('pollInterval').composite as number;
      place(settings.get('side').composite as Side);
    };
    try {
      const settings = await registry?.load(ID);
      if (settings) {
        follow(settings);
        settings.changed.connect(follow);
      }
    } catch {
      // Settings that can't be read must not take the sidebar away: it keeps the defaults.
    }
    if (side === null) {
      place('right');
    }
  }
};
