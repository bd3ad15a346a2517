import { commandsPlugin } from './plugins/commands';
import { livePlugin } from './plugins/live';
import { sidebarPlugin } from './plugins/sidebar';

export { ILiveState } from './tokens';

export default [livePlugin, commandsPlugin, sidebarPlugin];
