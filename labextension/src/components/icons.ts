import { LabIcon } from '@jupyterlab/ui-components';

const SIDEBAR = `<svg xmlns="http://www.w3.org/2000/svg" width="16" height="16" viewBox="0 0 16 16">
  <g class="jp-icon3" fill="#616161">
    <path d="M1.5 10.6 8 13.7l6.5-3.1v1.7L8 15.4l-6.5-3.1z"/>
    <path d="M1.5 7.4 8 10.5l6.5-3.1v1.7L8 12.2 1.5 9.1z" opacity=".75"/>
    <path d="M8 .6c.5 2.2 1.5 3.2 3.7 3.7C9.5 4.8 8.5 5.8 8 8 7.5 5.8 6.5 4.8 4.3 4.3 6.5 3.8 7.5 2.8 8 .6z"/>
  </g>
</svg>`;

/** Two layers of records and a spark: the sidebar's tab. */
export const sidebarIcon = new LabIcon({ name: 'jupyter-llmops:sidebar', svgstr: SIDEBAR });

const CHECK = `<svg xmlns="http://www.w3.org/2000/svg" width="16" height="16" viewBox="0 0 16 16">
  <path fill="currentColor" d="m6.5 12.3-4-4 1.1-1.1 2.9 2.9 6-6 1.1 1.1z"/>
</svg>`;

const CROSS = `<svg xmlns="http://www.w3.org/2000/svg" width="16" height="16" viewBox="0 0 16 16">
  <path fill="currentColor" d="m8 9.1-3.7 3.7-1.1-1.1L6.9 8 3.2 4.3l1.1-1.1L8 6.9l3.7-3.7 1.1 1.1L9.1 8l3.7 3.7-1.1 1.1z"/>
</svg>`;

const STOPPED = `<svg xmlns="http://www.w3.org/2000/svg" width="16" height="16" viewBox="0 0 16 16">
  <path fill="currentColor" d="M4 4h8v8H4z"/>
</svg>`;

const WARNING = `<svg xmlns="http://www.w3.org/2000/svg" width="16" height="16" viewBox="0 0 16 16">
  <path fill="currentColor" d="M8 1.5 15.2 14H.8zm0 3L3.4 12.5h9.2zM7.3 7h1.4v3H7.3zm0 3.6h1.4V12H7.3z"/>
</svg>`;

const INFO = `<svg xmlns="http://www.w3.org/2000/svg" width="16" height="16" viewBox="0 0 16 16">
  <path fill="currentColor" d="M8 1.3a6.7 6.7 0 1 1 0 13.4A6.7 6.7 0 0 1 8 1.3zm0 1.4a5.3 5.3 0 1 0 0 10.6A5.3 5.3 0 0 0 8 2.7zM7.3 7h1.4v4.5H7.3zm0-2.6h1.4v1.5H7.3z"/>
</svg>`;

/** They take the colour of the text around them. */
export const doneIcon = new LabIcon({ name: 'jupyter-llmops:done', svgstr: CHECK });
export const failedIcon = new LabIcon({ name: 'jupyter-llmops:failed', svgstr: CROSS });
export const stoppedIcon = new LabIcon({ name: 'jupyter-llmops:stopped', svgstr: STOPPED });
export const infoIcon = new LabIcon({ name: 'jupyter-llmops:info', svgstr: INFO });
export const warningIcon = new LabIcon({ name: 'jupyter-llmops:warning', svgstr: WARNING });
