import * as React from 'react';

import type { DriverStatus, IDevice, IGpus } from '../api/types';
import { Bar } from '../components/Bar';
import { FoldedNotice, Notice } from '../components/Notice';
import { RelativeTime } from '../components/RelativeTime';
import { Section } from '../components/Section';
import { Skeleton } from '../components/Skeleton';
import { UNKNOWN, bytesOf, percent, plural, price } from '../models/formats';
import { IReading, isLoading } from '../models/reader';

const DRIVER: Record<Exclude<DriverStatus, 'ok'>, string> = {
  missing: 'No NVIDIA driver on this machine',
  mismatched: 'The NVIDIA driver and its library do not match',
  refused: 'The NVIDIA driver refused to answer',
  error: 'The NVIDIA driver answered with an error'
};

export interface IGpusSectionProps {
  reading: IReading<IGpus>;
  onRetry: () => void;
}

/** The processors of the server's machine: memory and load as bars, and who says so. */
export function GpusSection({ reading, onRetry }: IGpusSectionProps): React.JSX.Element {
  const gpus = reading.value?.devices.filter(device => device.kind === 'gpu');
  return (
    <Section
      name="gpus"
      title="GPUs"
      count={gpus ? String(gpus.length) : ''}
      loading={isLoading(reading)}
    >
      <Devices reading={reading} onRetry={onRetry} />
    </Section>
  );
}

function Devices({ reading, onRetry }: IGpusSectionProps): React.JSX.Element {
  const { value, problem } = reading;
  if (value === null) {
    return problem ? (
      <Notice tone="error" title={problem.message} onRetry={onRetry}>
        {problem.hint && <p>{problem.hint}</p>}
      </Notice>
    ) : (
      <Skeleton rows={1} lines={4} />
    );
  }
  const { driver } = value;
  return (
    <>
      {driver.status !== 'ok' && (
        <FoldedNotice
          tone={driver.status === 'missing' ? 'info' : 'warning'}
          title={DRIVER[driver.status]}
          text={driver.message}
        />
      )}
      <ul className="jp-LLMOps-list">
        {value.devices.map(device => (
          <Device
            key={`${device.kind}-${device.index ?? device.name}`}
            device={device}
            currency={value.currency}
          />
        ))}
      </ul>
      <div className="jp-LLMOps-foot">
        <span title={driver.version ? `NVIDIA driver ${driver.version}` : undefined}>
          {value.site}
        </span>
        <span>
          measured <RelativeTime moment={value.measured_at} />
        </span>
      </div>
      {problem && (
        <Notice tone="warning" title={`Not up to date: ${problem.message}`} onRetry={onRetry} />
      )}
    </>
  );
}

function Device({ device, currency }: { device: IDevice; currency: string }): React.JSX.Element {
  const total = device.memory_total_bytes;
  const free = device.memory_free_bytes;
  const used = total === null || free === null ? null : total - free;
  const load = device.utilization_percent;
  const isGpu = device.kind === 'gpu';
  return (
    <li
      className="jp-LLMOps-row jp-mod-device"
      data-row={`${device.kind}-${device.index ?? 'host'}`}
    >
      <div className="jp-LLMOps-rowTitle">
        <span className="jp-LLMOps-rowName" title={device.name}>
          {device.name}
        </span>
        <span className="jp-LLMOps-rowAside">
          {isGpu ? `GPU ${device.index ?? UNKNOWN}` : 'CPU'}
        </span>
      </div>
      <Bar
        label={isGpu ? 'Memory' : 'RAM'}
        fraction={used === null || !total ? null : used / total}
        warns
        text={bytesOf(used, total)}
      />
      <Bar label="Load" fraction={load === null ? null : load / 100} text={percent(load)} />
      {(isGpu || device.price_per_hour !== null) && (
        <div className="jp-LLMOps-rowLine">
          {isGpu && (
            <span>
              {device.processes === null
                ? `${UNKNOWN} processes`
                : plural(device.processes, 'process')}
            </span>
          )}
          <span className="jp-LLMOps-number">{price(device.price_per_hour, currency)}</span>
        </div>
      )}
      {device.problem && <div className="jp-LLMOps-problem">{device.problem}</div>}
    </li>
  );
}
