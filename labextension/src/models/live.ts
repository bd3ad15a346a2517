import { Event, ServerConnection } from '@jupyterlab/services';
import { IDisposable } from '@lumino/disposable';
import { Poll } from '@lumino/polling';
import { ISignal, Signal } from '@lumino/signaling';

import { Client, RequestProblem } from '../api/client';
import {
  isCollections,
  isGpus,
  isModels,
  isPassages,
  isPrompts,
  isRuns,
  isStatus,
  isVersions
} from '../api/shapes';
import {
  ICollection,
  IGpus,
  IModel,
  IPassage,
  IPrompt,
  IRun,
  IStatus,
  IVersion,
  TOPICS,
  Topic
} from '../api/types';
import type { Where } from './actions';
import { Reader, IReading } from './reader';

/** The event that the server rings; it carries a revision and a topic, never the data. */
export const CHANGED_SCHEMA = 'https://schema.jupyter-llmops.org/changed/v1';

const RUNS_LIMIT = 50;
const LONGEST_PAUSE = 60_000;

export type Connection = 'connecting' | 'live' | 'missing' | 'lost';

/** Everything that the sidebar shows, at one moment. */
export interface ISnapshot {
  connection: Connection;
  status: IReading<IStatus>;
  gpus: IReading<IGpus>;
  models: IReading<IModel[]>;
  prompts: IReading<IPrompt[]>;
  collections: IReading<ICollection[]>;
  runs: IReading<IRun[]>;
}

export interface ILiveOptions {
  serverSettings: ServerConnection.ISettings;
  events?: Event.IManager;
  pollSeconds: number;
}

/**
 * The server's state as this page knows it.
 *
 * The server's event is the doorbell: it names a topic, which is then read. A slow poll is the
 * safety net; nothing is asked while nobody looks.
 */
export class LiveState implements IDisposable {
  constructor(options: ILiveOptions) {
    const client = (this.client = new Client(options.serverSettings));
    const changed = () => this.publish();
    this.status = new Reader(() => client.get('status', isStatus), changed);
    this.readers = {
      gpus: new Reader(() => client.get('gpus', isGpus), changed),
      models: new Reader(async () => (await client.get('models', isModels)).models, changed),
      prompts: new Reader(async () => (await client.get('prompts', isPrompts)).prompts, changed),
      collections: new Reader(
        async () => (await client.get('collections', isCollections)).collections,
        changed
      ),
      runs: new Reader(
        async () => (await client.get(`runs?limit=${RUNS_LIMIT}`, isRuns)).runs,
        changed
      )
    };
    this.current = this.collect();
    this.poll = new Poll({
      name: 'jupyter-llmops:live',
      auto: false,
      factory: () => this.readAll(),
      frequency: frequencyOf(options.pollSeconds),
      standby: () => (this.watchers > 0 ? 'when-hidden' : true)
    });
    this.events = options.events;
    this.events?.stream.connect(this.onEvent, this);
    document.addEventListener('visibilitychange', this.onPageShown);
    void this.poll.start();
  }

  /** Emitted when the snapshot was replaced. */
  get changed(): ISignal<this, void> {
    return this.changedSignal;
  }

  get snapshot(): ISnapshot {
    return this.current;
  }

  get isDisposed(): boolean {
    return this.poll.isDisposed;
  }

  /** Someone looks from now on; the returned function ends it. */
  watch(): () => void {
    this.watchers += 1;
    void this.refresh();
    return () => {
      this.watchers -= 1;
    };
  }

  /** Seconds between two looks at the server. */
  set pollSeconds(seconds: number) {
    this.poll.frequency = frequencyOf(seconds);
  }

  /** Read everything now; the next poll is counted from here. */
  async refresh(): Promise<void> {
    // `poll.refresh()` drops what is asked for while an answer is awaited, which may be older.
    await this.poll.schedule({ interval: Poll.IMMEDIATE, phase: 'refreshed' });
  }

  /** Every version of a prompt, newest first; read when somebody opens it, not followed. */
  async versions(prompt: Where): Promise<IVersion[]> {
    const query = queryOf({ name: prompt.name, private: Number(prompt.private) });
    return (await this.client.get(`prompts/versions?${query}`, isVersions)).versions;
  }

  /** Passages of a collection that hold the words, best first. */
  async search(collection: Where, words: string): Promise<IPassage[]> {
    const query = queryOf({
      collection: collection.name,
      private: Number(collection.private),
      q: words
    });
    return (await this.client.get(`search?${query}`, isPassages)).passages;
  }

  dispose(): void {
    if (this.isDisposed) {
      return;
    }
    document.removeEventListener('visibilitychange', this.onPageShown);
    this.events?.stream.disconnect(this.onEvent, this);
    this.poll.dispose();
    Signal.clearData(this);
  }

  private async readAll(): Promise<void> {
    await this.status.read();
    const problem = this.status.reading.problem;
    if (problem && problem.kind !== 'failed') {
      // Without a server to ask, five more requests would only say the same.
      throw problem;
    }
    await Promise.all(TOPICS.map(topic => this.readers[topic].read()));
  }

  private onEvent(_: unknown, event: Event.Emission): void {
    const topic = event.schema_id === CHANGED_SCHEMA ? event.topic : null;
    if (this.watchers > 0 && !document.hidden && isTopic(topic)) {
      void this.readers[topic].read();
    }
  }

  private readonly onPageShown = () => {
    if (this.watchers > 0 && !document.hidden) {
      void this.refresh();
    }
  };

  private publish(): void {
    this.current = this.collect();
    this.changedSignal.emit();
  }

  private collect(): ISnapshot {
    return {
      connection: connectionOf(this.status.reading),
      status: this.status.reading,
      gpus: this.readers.gpus.reading,
      models: this.readers.models.reading,
      prompts: this.readers.prompts.reading,
      collections: this.readers.collections.reading,
      runs: this.readers.runs.reading
    };
  }

  private readonly client: Client;
  private watchers = 0;
  private current: ISnapshot;
  private readonly poll: Poll;
  private readonly events: Event.IManager | undefined;
  private readonly status: Reader<IStatus>;
  private readonly readers: {
    gpus: Reader<IGpus>;
    models: Reader<IModel[]>;
    prompts: Reader<IPrompt[]>;
    collections: Reader<ICollection[]>;
    runs: Reader<IRun[]>;
  };
  private readonly changedSignal = new Signal<this, void>(this);
}

/** While the server does not answer, the pauses grow, up to a minute. */
function frequencyOf(seconds: number) {
  const interval = seconds * 1000;
  return { interval, backoff: true, max: Math.max(LONGEST_PAUSE, interval) };
}

function queryOf(values: Record<string, string | number>): string {
  return Object.entries(values)
    .map(([name, value]) => `${name}=${encodeURIComponent(value)}`)
    .join('&');
}

function isTopic(value: unknown): value is Topic {
  return TOPICS.includes(value as Topic);
}

function connectionOf(status: IReading<IStatus>): Connection {
  const problem: RequestProblem | null = status.problem;
  if (problem) {
    return problem.kind === 'missing' ? 'missing' : 'lost';
  }
  return status.value ? 'live' : 'connecting';
}
