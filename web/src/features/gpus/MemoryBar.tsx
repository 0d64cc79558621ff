import { Tooltip } from 'antd';
import { Fragment } from 'react';
import { useTranslation } from 'react-i18next';
import { Link, useLocation } from 'react-router';
import { useTaskList } from '../../api/queries';
import type { DeviceView, ProcessView } from '../../api/types';
import type { TextKey } from '../../i18n';
import { formatBytes } from '../../shared/format';
import { taskTitle } from '../queue/cells';
import type { MemoryPicture, Segment, SegmentKind } from './segments';

const WORDS: Record<Exclude<SegmentKind, 'task' | 'promised'>, TextKey> = {
  service: 'gpu.service',
  foreign: 'gpu.foreign',
  unattributed: 'gpu.unattributed',
  unclear: 'gpu.unclear',
  reserved: 'gpu.reserved',
  free: 'gpu.free',
};

/** Bytes, or that they are unknown: never 0 instead. */
function useFigure() {
  const { t } = useTranslation();
  return (bytes: number | null) => (bytes === null ? t('gpu.unknown') : formatBytes(bytes));
}

/** The name and the figure of each part. */
function useWords(device: DeviceView) {
  const { t } = useTranslation();
  const figure = useFigure();
  const { data } = useTaskList(null);
  const title = (id: string) => {
    const task = data?.tasks.find(({ task_id }) => task_id === id);
    return task ? taskTitle(task) : id;
  };
  const name = ({ kind, taskId = '', processes }: Segment): string => {
    if (kind === 'task') return title(taskId);
    if (kind === 'promised') return t('gpu.promisedTo', { name: title(taskId) });
    const [process] = processes;
    if (kind === 'service' && process?.service) return process.service;
    if (process) return process.name ?? t(WORDS[kind]);
    return kind === 'unclear' && device.kind === 'cpu' ? t('gpu.machine') : t(WORDS[kind]);
  };
  const amount = ({ kind, bytes, grant }: Segment): string => {
    if (kind !== 'task' || grant === undefined) return figure(bytes);
    return grant === null
      ? t('gpu.ofWhole', { bytes: figure(bytes) })
      : t('gpu.ofGrant', { bytes: figure(bytes), grant: formatBytes(grant) });
  };
  return { name, amount };
}

/** All of a device's memory as one bar. */
export function MemoryBar({ device, picture }: { device: DeviceView; picture: MemoryPicture }) {
  const { t } = useTranslation();
  const { name, amount } = useWords(device);
  const { memory } = device;
  if (!memory) return null;
  const said = picture.segments
    .filter(({ kind }) => kind !== 'promised')
    .map((segment) => `${name(segment)} ${amount(segment)}`)
    .join(', ');
  return (
    <div
      className="memory-bar"
      role="meter"
      aria-label={t('gpu.memoryOf', { name: device.name })}
      aria-valuemin={0}
      aria-valuemax={memory.total}
      aria-valuenow={memory.used}
      aria-valuetext={said}
    >
      {picture.segments
        .filter(({ span }) => span > 0)
        .map((segment) => (
          <Tooltip
            key={segment.key}
            title={
              <>
                {name(segment)} · {amount(segment)}
                <Processes processes={segment.processes} />
              </>
            }
          >
            <span
              className={`segment segment-${segment.kind}`}
              style={{ flexGrow: segment.span / memory.total }}
              data-kind={segment.kind}
            />
          </Tooltip>
        ))}
    </div>
  );
}

/** What each part of the bar is, how much it is, and whose. */
export function MemoryLegend({ device, picture }: { device: DeviceView; picture: MemoryPicture }) {
  const { name, amount } = useWords(device);
  const { search } = useLocation();
  return (
    <ul className="legend" data-testid="memory-legend">
      {picture.segments
        .filter(({ kind }) => kind !== 'promised')
        .map((segment) => (
          <li key={segment.key} data-kind={segment.kind}>
            <span
              className={`swatch segment-${segment.kind}${segment.grant === undefined ? '' : ' swatch-granted'}`}
              aria-hidden
            />
            <span className="legend-name" title={name(segment)}>
              {segment.kind === 'task' && segment.taskId ? (
                <Link to={{ pathname: `/tasks/${segment.taskId}`, search }}>{name(segment)}</Link>
              ) : (
                name(segment)
              )}
              {segment.kind !== 'task' && <Who processes={segment.processes} />}
            </span>
            <span className="cell-number legend-bytes">{amount(segment)}</span>
          </li>
        ))}
    </ul>
  );
}

const HOLDERS = 3;

/** In short who has the memory, the largest first. */
export function Holders({ device, picture }: { device: DeviceView; picture: MemoryPicture }) {
  const { name, amount } = useWords(device);
  const held = picture.segments
    .filter(({ kind }) => kind !== 'free' && kind !== 'promised' && kind !== 'reserved')
    .sort((a, b) => b.span - a.span);
  if (held.length === 0) return null;
  const said = held.slice(0, HOLDERS).map((segment) => `${name(segment)} ${amount(segment)}`);
  if (held.length > HOLDERS) said.push(`+${held.length - HOLDERS}`);
  return <span className="device-under cell-number device-holders">{said.join(' · ')}</span>;
}

const KEY: { kind: SegmentKind; text: TextKey }[] = [
  { kind: 'task', text: 'gpu.ours' },
  { kind: 'promised', text: 'gpu.promised' },
  { kind: 'service', text: 'gpu.service' },
  { kind: 'foreign', text: 'gpu.foreign' },
  { kind: 'unattributed', text: 'gpu.unattributed' },
  { kind: 'unclear', text: 'gpu.unclear' },
  { kind: 'reserved', text: 'gpu.reserved' },
  { kind: 'free', text: 'gpu.free' },
];

/** What the looks of the bars mean, as far as they occur. */
export function MemoryKey({ pictures }: { pictures: MemoryPicture[] }) {
  const { t } = useTranslation();
  const shown = new Set(pictures.flatMap(({ segments }) => segments.map(({ kind }) => kind)));
  return (
    <ul className="memory-key" aria-label={t('gpu.key')}>
      {KEY.filter(({ kind }) => shown.has(kind)).map(({ kind, text }) => (
        <li key={kind}>
          <span className={`swatch segment-${kind}`} aria-hidden /> {t(text)}
        </li>
      ))}
    </ul>
  );
}

/** `pid 4242, li`; the command behind it. */
function Who({ processes }: { processes: ProcessView[] }) {
  const [process] = processes;
  if (!process) return null;
  const text = [`pid ${process.pid}`, process.user].filter(Boolean).join(', ');
  return (
    <Tooltip title={<Processes processes={processes} />}>
      <button type="button" className="who">
        {text}
      </button>
    </Tooltip>
  );
}

function Processes({ processes }: { processes: ProcessView[] }) {
  const { t } = useTranslation();
  const figure = useFigure();
  return processes.map(({ pid, name, user, command, bytes, task_id }) => (
    <div key={pid} className="process">
      {[`pid ${pid}`, name, user !== null && t('gpu.user', { user }), figure(bytes), task_id]
        .filter(Boolean)
        .map((part, index) => (
          <Fragment key={String(part)}>
            {index > 0 && ' · '}
            {part}
          </Fragment>
        ))}
      {command && <code>{command}</code>}
    </div>
  ));
}
