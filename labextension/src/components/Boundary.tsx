import * as React from 'react';

import { Notice } from './Notice';

interface IBoundaryProps {
  /** What could not be shown: "The list of runs". */
  what: string;
  children: React.ReactNode;
}

/** Keeps an error in one part from taking the whole sidebar away. */
export class Boundary extends React.Component<IBoundaryProps, { error: Error | null }> {
  state = { error: null as Error | null };

  static getDerivedStateFromError(error: Error): { error: Error } {
    return { error };
  }

  render(): React.ReactNode {
    const { error } = this.state;
    return error ? (
      <Notice
        tone="error"
        title={`${this.props.what} can't be shown`}
        onRetry={() => this.setState({ error: null })}
      >
        <p>{error.message}</p>
      </Notice>
    ) : (
      this.props.children
    );
  }
}
