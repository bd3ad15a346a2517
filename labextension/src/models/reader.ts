import { JSONExt, PartialJSONValue } from '@lumino/coreutils';

import { RequestProblem } from '../api/client';

/** What is known of one thing: its last value, and why the last attempt to read it failed. */
export interface IReading<T> {
  value: T | null;
  problem: RequestProblem | null;
  /** Milliseconds since 1970 of the last value. */
  readAt: number | null;
}

/** Whether nothing is known yet, not even why. */
export function isLoading(reading: IReading<unknown>): boolean {
  return reading.value === null && reading.problem === null;
}

const PAUSE = 150;

/**
 * Reads one thing, one request at a time.
 *
 * A call during a request is remembered and served by one more request when that ended, so that
 * a burst of doorbells costs two requests and the last change is never missed. A value that did
 * not change keeps its identity, so nothing is drawn again.
 */
export class Reader<T> {
  constructor(
    private readonly fetch: () => Promise<T>,
    private readonly changed: () => void
  ) {}

  reading: IReading<T> = { value: null, problem: null, readAt: null };

  read(): Promise<void> {
    if (this.running) {
      this.again = true;
      return this.running;
    }
    this.running = this.run().finally(() => {
      this.running = null;
    });
    return this.running;
  }

  private async run(): Promise<void> {
    await this.once();
    while (this.again) {
      this.again = false;
      await new Promise(resolve => setTimeout(resolve, PAUSE));
      await this.once();
    }
  }

  private async once(): Promise<void> {
    const before = this.reading;
    try {
      const fresh = await this.fetch();
      const same = JSONExt.deepEqual(before.value as PartialJSONValue, fresh as PartialJSONValue);
      this.reading = { value: same ? before.value : fresh, problem: null, readAt: Date.now() };
    } catch (error) {
      const problem =
        error instanceof RequestProblem ? error : new RequestProblem('failed', String(error));
      this.reading = { ...before, problem };
    }
    this.changed();
  }

  private running: Promise<void> | null = null;
  private again = false;
}
