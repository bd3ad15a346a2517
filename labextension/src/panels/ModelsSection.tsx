import * as React from 'react';

import type { IModel } from '../api/types';
import { CopyButton } from '../components/CopyButton';
import { Snippet } from '../components/Notice';
import { RecordList } from '../components/RecordList';
import { Digest, Facts, Made } from '../components/Facts';
import { Row } from '../components/Row';
import { Section } from '../components/Section';
import { matches, modelTexts } from '../models/filter';
import { UNKNOWN, bytes, count } from '../models/formats';
import { IReading, isLoading } from '../models/reader';
import { countOf } from './counts';

const KINDS: Record<IModel['kind'], string> = {
  llm: 'language',
  encoder: 'encoder',
  classic: 'classic'
};

export interface IModelsSectionProps {
  reading: IReading<IModel[]>;
  filter: string;
  onRetry: () => void;
}

/** The models that the team can use. */
export function ModelsSection({
  reading,
  filter,
  onRetry
}: IModelsSectionProps): React.JSX.Element {
  const models = reading.value ?? [];
  const shown = models.filter(model => matches(filter, modelTexts(model)));
  return (
    <Section
      name="models"
      title="Models"
      count={countOf(reading.value, shown, filter)}
      loading={isLoading(reading)}
    >
      <RecordList
        reading={reading}
        shown={shown}
        limit={5}
        noun="models"
        lines={2}
        keyOf={model => model.name}
        onRetry={onRetry}
        render={(model, fresh) => <ModelRow model={model} fresh={fresh} />}
        empty={
          <>
            No models yet. A model is listed once a prompt has used it; start a cell with
            <Snippet text="%%prompt -m smollm2-135m-instruct" />
          </>
        }
      />
    </Section>
  );
}

function ModelRow({ model, fresh }: { model: IModel; fresh: boolean }): React.JSX.Element {
  return (
    <Row
      id={model.name}
      fresh={fresh}
      title={<span title={model.name}>{model.name}</span>}
      aside={<span className="jp-LLMOps-tag">{KINDS[model.kind]}</span>}
      lines={[
        <React.Fragment key="size">
          <span>
            {model.parameters === null ? model.family : `${count(model.parameters)} weights`}
          </span>
          <span className="jp-LLMOps-number">{bytes(model.size_bytes)}</span>
        </React.Fragment>
      ]}
      actions={<CopyButton text={model.name} label="the model's name" />}
      details={
        <Facts
          facts={[
            ['Family', model.family],
            ['Licence', model.license || UNKNOWN],
            [
              'Context',
              model.context_length === null
                ? UNKNOWN
                : `${model.context_length.toLocaleString()} tokens`
            ],
            ['Source', <code key="source">{model.source}</code>],
            ['Digest', <Digest key="digest" digest={model.digest} />],
            ['Site', model.site],
            ['Added', model.created_at && <Made by={model.created_by} at={model.created_at} />]
          ]}
        />
      }
    />
  );
}
