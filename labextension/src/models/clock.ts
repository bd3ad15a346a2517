import * as React from 'react';

const TICK = 5_000;

/** One timer for every relative time on the page; it stands still while nobody listens. */
class Clock {
  now = Date.now();

  subscribe = (listener: () => void): (() => void) => {
    if (this.listeners.size === 0) {
      this.now = Date.now();
      this.timer = window.setInterval(this.tick, TICK);
    }
    this.listeners.add(listener);
    return () => {
      this.listeners.delete(listener);
      if (this.listeners.size === 0) {
        window.clearInterval(this.timer);
      }
    };
  };

  private readonly tick = () => {
    this.now = Date.now();
    this.listeners.forEach(listener => listener());
  };

  private timer = 0;
  private readonly listeners = new Set<() => void>();
}

const clock = new Clock();

/** The time now in milliseconds since 1970, renewed every few seconds. */
export function useNow(): number {
  return React.useSyncExternalStore(clock.subscribe, () => clock.now);
}
