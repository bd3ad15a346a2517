import { URLExt } from '@jupyterlab/coreutils';
import { ServerConnection } from '@jupyterlab/services';

import type { Shape } from './shapes';

const ROOT = 'jupyter-llmops';

/**
 * Why a request got no answer that can be shown.
 *
 * - `missing`: the server runs, but without our extension (404 from Jupyter itself);
 * - `unreachable`: no server answered;
 * - `refused`: this page may not ask (401, 403);
 * - `failed`: our extension answered with an error, e.g. that there is no such name.
 */
export type ProblemKind = 'missing' | 'unreachable' | 'refused' | 'failed';

/** A request that failed, in words for the person who reads the sidebar. */
export class RequestProblem extends Error {
  constructor(
    readonly kind: ProblemKind,
    message: string,
    readonly hint = ''
  ) {
    super(message);
    this.name = 'RequestProblem';
  }
}

/** Reads the server extension's routes. */
export class Client {
  constructor(private readonly settings: ServerConnection.ISettings) {}

  /**
   * Return the JSON that a route answers.
   *
   * @param route - below `<base_url>/jupyter-llmops/`, for example `runs?limit=50`.
   * @param shape - what the answer must look like.
   * @throws RequestProblem - whatever went wrong.
   */
  async get<T>(route: string, shape: Shape<T>): Promise<T> {
    const response = await this.ask(URLExt.join(this.settings.baseUrl, ROOT, route));
    if (!response.ok) {
      throw await problemOf(response);
    }
    const answer = await jsonOf(response);
    if (!shape(answer)) {
      throw new RequestProblem(
        'failed',
        'The server answered something that this sidebar does not understand.',
        'After an update of jupyter-llmops, start Jupyter again and reload this page.'
      );
    }
    return answer;
  }

  private async ask(url: string): Promise<Response> {
    try {
      return await ServerConnection.makeRequest(url, {}, this.settings);
    } catch {
      throw new RequestProblem(
        'unreachable',
        'The Jupyter server does not answer.',
        'Check that it is still running; this sidebar goes on by itself when it is back.'
      );
    }
  }
}

async function jsonOf(response: Response): Promise<unknown> {
  try {
    return await response.json();
  } catch {
    return undefined;
  }
}

async function problemOf(response: Response): Promise<RequestProblem> {
  const { message, hint, ours } = await errorBody(response);
  if (response.status === 404 && !ours) {
    return new RequestProblem('missing', 'The server part of LLMOps is not running.');
  }
  if (response.status === 401 || response.status === 403) {
    return new RequestProblem(
      'refused',
      'The Jupyter server does not accept the login of this page.',
      'Reload the page and log in again.'
    );
  }
  return new RequestProblem(
    'failed',
    message || `The server answered with an error (${response.status}).`,
    hint
  );
}

interface IErrorBody {
  message: string;
  hint: string;
  /** Whether our extension said it: only its errors have a hint, be it empty. */
  ours: boolean;
}

async function errorBody(response: Response): Promise<IErrorBody> {
  const body = ((await jsonOf(response)) ?? {}) as { message?: unknown; hint?: unknown };
  return {
    message: asText(body.message),
    hint: asText(body.hint),
    ours: typeof body.hint === 'string'
  };
}

function asText(value: unknown): string {
  return typeof value === 'string' ? value : '';
}
