import { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { Clipboard, ICommandPalette, Notification } from '@jupyterlab/apputils';
import { INotebookTracker, NotebookActions } from '@jupyterlab/notebook';
import { refreshIcon } from '@jupyterlab/ui-components';

import { sidebarIcon } from '../components/icons';
import type { LiveState } from '../models/live';
import { blankOf } from '../models/snippets';
import { CommandIDs, ILiveState, SIDEBAR_ID } from '../tokens';

const CATEGORY = 'LLMOps';

/** The sidebar's commands, and those that make sense without it in the palette. */
export const commandsPlugin: JupyterFrontEndPlugin<void> = {
  id: 'jupyter-llmops:commands',
  description: 'Opens and refreshes the LLMOps sidebar, inserts cells.',
  autoStart: true,
  requires: [ILiveState],
  optional: [ICommandPalette, INotebookTracker],
  activate: (
    app: JupyterFrontEnd,
    live: LiveState,
    palette: ICommandPalette | null,
    notebooks: INotebookTracker | null
  ) => {
    app.commands.addCommand(CommandIDs.open, {
      label: 'Show the LLMOps sidebar',
      caption: 'GPUs, models, prompts, collections and runs',
      icon: sidebarIcon,
      execute: () => app.shell.activateById(SIDEBAR_ID)
    });
    app.commands.addCommand(CommandIDs.refresh, {
      label: 'Refresh the LLMOps sidebar',
      icon: refreshIcon,
      execute: () => live.refresh()
    });
    app.commands.addCommand(CommandIDs.insert, {
      label: 'Insert an LLMOps cell',
      caption: 'Put a new cell with the given source under the active one',
      describedBy: {
        args: {
          type: 'object',
          required: ['source'],
          properties: { source: { type: 'string', description: 'Text of the new cell' } }
        }
      },
      execute: args => insertCell(notebooks, String(args['source'] ?? ''))
    });
    for (const command of [CommandIDs.open, CommandIDs.refresh]) {
      palette?.addItem({ command, category: CATEGORY });
    }
  }
};

/** Put a cell under the active one, with the cursor where something is missing; nothing is run. */
async function insertCell(notebooks: INotebookTracker | null, source: string): Promise<void> {
  const panel = notebooks?.currentWidget;
  if (!panel) {
    Clipboard.copyToSystem(source);
    Notification.info(`No notebook is open, so it was copied: ${source}`, { autoClose: 5000 });
    return;
  }
  NotebookActions.insertBelow(panel.content);
  const cell = panel.content.activeCell;
  if (!cell) {
    return;
  }
  cell.model.sharedModel.setSource(source);
  await panel.content.scrollToCell(cell);
  await cell.ready;
  panel.content.activate();
  panel.content.mode = 'edit';
  cell.editor?.setCursorPosition(blankOf(source));
}
