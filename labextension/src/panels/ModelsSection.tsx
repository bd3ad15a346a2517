import * as React from 'react';

import type { IModel } from '../api/types';
import { Aliases, Marks, Name } from '../components/Badges';
import { CopyButton } from '../components/CopyButton';
import { Digest, Facts, Made } from '../components/Facts';
import { Snippet } from '../components/Notice';
import { RecordList } from '../components/RecordList';
import { Row } from '../components/Row';
import { Section } from '../components/Section';
import { modelTexts } from '../models/filter';
import { UNKNOWN, bytes, count, plural, shortSource, speed } from '../models/formats';
import { IReading, isLoading } from '../models/reader';
import { keyOf, split } from './counts';

const KINDS: Record<IModel['kind'], string> = {
  llm: 'language',
  encoder: 'encoder',
  classic: 'classic',
  adapter: 'adapter'
};

export interface IModelsSectionProps {
  reading: IReading<IModel[]>;
  filter: string;
  /** This host: its speeds come first. */
  site: string;
  onRetry: () => void;
}

/** The models that the team can use. */
export function ModelsSection(props: IModelsSectionProps): React.JSX.Element {
  const { reading, filter, site, onRetry } = props;
  const { shown, retired, count: counted } = split(reading.value, filter, modelTexts);
  return (
    <Section name="models" title="Models" count={counted} loading={isLoading(reading)}>
      <RecordList
        reading={reading}
        shown={shown}
        retired={retired}
        limit={5}
        noun="models"
        lines={3}
        keyOf={keyOf}
        onRetry={onRetry}
        render={(model, fresh) => <ModelRow model={model} site={site} fresh={fresh} />}
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

function ModelRow(props: { model: IModel; site: string; fresh: boolean }): React.JSX.Element {
  const { model, site, fresh } = props;
  const aliases = model.aliases.map(text => ({ text, title: `Alias: ${text} is ${model.name}` }));
  const where = whereOf(model);
  return (
    <Row
      id={model.name}
      fresh={fresh}
      className={model.retired ? 'jp-mod-retired' : ''}
      title={
        <>
          <Name name={model.name} />
          <Marks {...model} />
        </>
      }
      aside={<span className="jp-LLMOps-tag">{KINDS[model.kind] ?? model.kind}</span>}
      lines={[
        <React.Fragment key="size">
          <Aliases aliases={aliases} />
          <span className="jp-LLMOps-rowText">
            {model.parameters === null ? model.family : `${count(model.parameters)} weights`}
          </span>
          <span className="jp-LLMOps-number">{bytes(model.size_bytes)}</span>
        </React.Fragment>,
        <React.Fragment key="where">
          <span className="jp-LLMOps-rowText" title={where}>
            {where}
          </span>
          <Speed model={model} site={site} />
        </React.Fragment>
      ]}
      actions={<CopyButton text={model.name} label="the model's name" />}
      details={
        <>
          {model.description && <p className="jp-LLMOps-says">{model.description}</p>}
          <Facts
            facts={[
              ['Aliases', model.aliases.join(', ')],
              ['Tags', model.tags.join(', ')],
              ['Family', model.family],
              ['Format', model.format],
              ['Precisions', model.quantizations.join(', ')],
              ['Based on', model.base],
              ['Licence', model.license || UNKNOWN],
              ['Context', contextOf(model)],
              ['Source', <code key="source">{model.source}</code>],
              ['Also at', model.places.length > 0 && <Places key="places" model={model} />],
              ['Speed', model.speeds.length > 0 && <Speeds key="speeds" model={model} />],
              ['Digest', <Digest key="digest" digest={model.digest} />],
              ['Signed by', model.signed_by],
              ['Site', model.site],
              ['Added', model.created_at && <Made by={model.created_by} at={model.created_at} />]
            ]}
          />
        </>
      }
    />
  );
}

/** The machine's own speed where it was measured, else the best of the others. */
function Speed({ model, site }: { model: IModel; site: string }): React.JSX.Element | null {
  const fastest = [...model.speeds].sort((a, b) => b.tokens_per_second - a.tokens_per_second);
  const best = fastest.find(one => one.host === site) ?? fastest[0];
  return best ? (
    <span className="jp-LLMOps-number" title={`Measured on ${saidOf(best)}`}>
      {speed(best.tokens_per_second)}
    </span>
  ) : null;
}

function Speeds({ model }: { model: IModel }): React.JSX.Element {
  return (
    <>
      {model.speeds.map(one => (
        <div key={`${one.host} ${one.quantization}`}>
          {speed(one.tokens_per_second)} on {saidOf(one)}
        </div>
      ))}
    </>
  );
}

function Places({ model }: { model: IModel }): React.JSX.Element {
  return (
    <>
      {model.places.map(place => (
        <div key={`${place.site} ${place.source}`}>
          {siteOf(place.site)}: <code>{place.source}</code>
        </div>
      ))}
    </>
  );
}

function saidOf(one: IModel['speeds'][number]): string {
  const details = [one.quantization, plural(one.runs, 'run')].filter(Boolean).join(', ');
  return `${one.host} (${details})`;
}

/** `…/models/phi · workstation-3, the team's storage`. */
function whereOf(model: IModel): string {
  const sites = new Set([model.site, ...model.places.map(place => place.site)].filter(Boolean));
  return [shortSource(model.source), [...sites].map(siteOf).join(', ')].filter(Boolean).join(' · ');
}

function siteOf(site: string): string {
  return site === 'storage' ? "the team's storage" : site;
}

function contextOf(model: IModel): string {
  return model.context_length === null
    ? UNKNOWN
    : `${model.context_length.toLocaleString()} tokens`;
}
