import * as React from 'react';

import type { IRun } from '../api/types';
import { CopyButton } from '../components/CopyButton';
import { Facts } from '../components/Facts';
import { Snippet } from '../components/Notice';
import { RecordList } from '../components/RecordList';
import { RelativeTime } from '../components/RelativeTime';
import { Row } from '../components/Row';
import { RunStatusIcon } from '../components/RunStatus';
import { Section } from '../components/Section';
import { matches, runTexts } from '../models/filter';
import { UNKNOWN, baseName, duration, exact } from '../models/formats';
import { IReading, isLoading } from '../models/reader';
import { runSnippet } from '../models/snippets';
import { countOf } from './counts';

export interface IRunsSectionProps {
  reading: IReading<IRun[]>;
  filter: string;
  onRetry: () => void;
}

/** The newest runs of cells, prompts and cascades. */
export function RunsSection({ reading, filter, onRetry }: IRunsSectionProps): React.JSX.Element {
  const runs = reading.value ?? [];
  const shown = runs.filter(run => matches(filter, runTexts(run)));
  return (
    <Section
      name="runs"
      title="Runs"
      count={countOf(reading.value, shown, filter)}
      loading={isLoading(reading)}
    >
      <RecordList
        reading={reading}
        shown={shown}
        limit={12}
        noun="runs"
        lines={3}
        keyOf={run => run.id}
        onRetry={onRetry}
        render={(run, fresh) => <RunRow run={run} fresh={fresh} />}
        empty={
          <>
            No runs yet. Type this in a notebook; every cell after it is recorded:
            <Snippet text="%load_ext jupyter_llmops" />
          </>
        }
      />
    </Section>
  );
}

function RunRow({ run, fresh }: { run: IRun; fresh: boolean }): React.JSX.Element {
  const snippet = runSnippet(run);
  const facts = factsOf(run);
  return (
    <Row
      id={run.id}
      className="jp-mod-run"
      fresh={fresh}
      title={
        <>
          <RunStatusIcon status={run.status} />
          <span className="jp-LLMOps-kind">{run.kind}</span>
          {run.execution_count !== null && (
            <span className="jp-LLMOps-in">In[{run.execution_count}]</span>
          )}
        </>
      }
      aside={<RelativeTime moment={run.started_at} />}
      lines={[
        <code key="preview" title={run.preview || undefined}>
          {previewOf(run)}
        </code>,
        <React.Fragment key="facts">
          <span title={facts}>{facts}</span>
          <span className="jp-LLMOps-number">{duration(run.seconds)}</span>
        </React.Fragment>
      ]}
      actions={<CopyButton text={snippet} label={`"${snippet}"`} />}
      details={
        <Facts
          facts={[
            ['Run', <code key="id">{run.id}</code>],
            ['Started', exact(run.started_at)],
            ['Error', run.error_type],
            ['Notebook', run.notebook],
            ['Model', run.model],
            [
              'Tokens',
              run.model ? `${run.tokens_in ?? UNKNOWN} in, ${run.tokens_out ?? UNKNOWN} out` : ''
            ],
            ['Answer', answerOf(run)],
            ['Ran in', run.parent && <code key="parent">{run.parent}</code>],
            ['User', [run.user, run.host].filter(Boolean).join(' on ')],
            ['Journal', <code key="journal">{`${run.session} line ${run.seq}`}</code>]
          ]}
        />
      }
    />
  );
}

function previewOf(run: IRun): string {
  return run.preview || run.error_type || (run.kind === 'session' ? 'A session began' : UNKNOWN);
}

function answerOf(run: IRun): string {
  return { model: 'from the model', cache: 'from the cache' }[run.source] ?? run.source;
}

function factsOf(run: IRun): string {
  const facts = [
    run.status,
    run.tokens_out === null ? '' : `${run.tokens_out} tokens`,
    run.source === 'cache' ? 'cache' : '',
    run.status === 'error' ? run.error_type : '',
    baseName(run.notebook)
  ];
  return facts.filter(Boolean).join(' · ');
}
