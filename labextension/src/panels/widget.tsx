import { ReactWidget } from '@jupyterlab/ui-components';
import { Message } from '@lumino/messaging';
import * as React from 'react';

import { sidebarIcon } from '../components/icons';
import type { IActions } from '../models/actions';
import type { LiveState } from '../models/live';
import { SIDEBAR_ID } from '../tokens';
import { Sidebar } from './Sidebar';

/** The sidebar as a widget of the shell; it asks the server only while it is shown. */
export class SidebarWidget extends ReactWidget {
  constructor(
    private readonly live: LiveState,
    private readonly actions: IActions
  ) {
    super();
    this.id = SIDEBAR_ID;
    this.addClass('jp-LLMOps');
    this.title.icon = sidebarIcon;
    this.title.caption = 'LLMOps: GPUs, models, prompts, collections, runs';
    this.node.setAttribute('role', 'region');
    this.node.setAttribute('aria-label', 'LLMOps');
  }

  protected render(): React.JSX.Element {
    return <Sidebar live={this.live} actions={this.actions} />;
  }

  protected onAfterShow(message: Message): void {
    super.onAfterShow(message);
    this.look(true);
  }

  protected onAfterAttach(message: Message): void {
    super.onAfterAttach(message);
    this.look(this.isVisible);
  }

  protected onAfterHide(message: Message): void {
    super.onAfterHide(message);
    this.look(false);
  }

  protected onBeforeDetach(message: Message): void {
    this.look(false);
    super.onBeforeDetach(message);
  }

  private look(visible: boolean): void {
    if (visible === (this.endWatch !== null)) {
      return;
    }
    this.endWatch?.();
    this.endWatch = visible ? this.live.watch() : null;
  }

  private endWatch: (() => void) | null = null;
}
