import * as React from 'react';

export interface IBarProps {
  /** What is measured: "Memory", "Load". */
  label: string;
  /** 0 to 1, or null when nobody could measure it. */
  fraction: number | null;
  /** Whether being nearly full is worth a warning: for memory it is, for load it is not. */
  warns?: boolean;
  /** The number in words, beside the bar. */
  text: string;
}

/** A usage bar between its name and its number; an unknown value is hatched, never empty. */
export function Bar({ label, fraction, text, warns }: IBarProps): React.JSX.Element {
  const share = fraction === null ? null : Math.min(1, Math.max(0, fraction));
  const meter =
    share === null
      ? { role: 'img', 'aria-label': `${label}: not known` }
      : {
          role: 'meter',
          'aria-label': label,
          'aria-valuemin': 0,
          'aria-valuemax': 100,
          'aria-valuenow': Math.round(share * 100),
          'aria-valuetext': text
        };
  return (
    <div className="jp-LLMOps-bar">
      <span className="jp-LLMOps-barLabel">{label}</span>
      <span className={`jp-LLMOps-barTrack ${share === null ? 'jp-mod-unknown' : ''}`} {...meter}>
        {share !== null && (
          <span
            className={`jp-LLMOps-barFill ${warns && share >= 0.9 ? 'jp-mod-full' : ''}`}
            style={{ width: `${share * 100}%` }}
          />
        )}
      </span>
      <span className="jp-LLMOps-barText">{text}</span>
    </div>
  );
}
