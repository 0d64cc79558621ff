import { useEffect, useRef, useState } from 'react';
import { api } from '../../api/client';
import { openStream, type Stream } from '../../api/events';
import type { LogChunk } from '../../api/types';
import { LogBuffer } from './logBuffer';

/** Of a longer log only the end is fetched. */
export const TAIL_BYTES = 8 * 1024 * 1024;

/** Redraws per second are limited; a trainer may print thousands of lines in one. */
const REDRAW_MS = 100;

interface LogState {
  buffer: LogBuffer;
  /** Grows with every change of the buffer. */
  version: number;
  /** The beginning of the log was left out. */
  cut: boolean;
  ended: boolean;
  error: unknown;
}

/** A task's log, live. */
export function useLog(taskId: string): LogState {
  const buffer = useRef(new LogBuffer());
  const [state, setState] = useState({ version: 0, cut: false, ended: false, error: null as unknown });

  useEffect(() => {
    let stream: Stream | null = null;
    let timer: ReturnType<typeof setTimeout> | undefined;
    let closed = false;
    buffer.current = new LogBuffer();

    const redraw = () => {
      timer ??= setTimeout(() => {
        timer = undefined;
        setState((now) => ({ ...now, version: now.version + 1 }));
      }, REDRAW_MS);
    };
    const follow = () => {
      stream = openStream({
        url: () => api.logStreamUrl(taskId, buffer.current.offset),
        handlers: {
          log: (event) => {
            const { text } = JSON.parse(event.data) as LogChunk;
            buffer.current.append(text, Number(event.lastEventId));
            redraw();
          },
          end: () => {
            // The studio closes the stream after this; without closing here it would be opened again.
            stream?.close();
            setState((now) => ({ ...now, ended: true }));
          },
        },
      });
    };

    api
      .logLength(taskId)
      .then((length) => {
        if (closed) return;
        const start = Math.max(0, length - TAIL_BYTES);
        buffer.current = new LogBuffer(start);
        setState((now) => ({ ...now, version: now.version + 1, cut: start > 0 }));
        follow();
      })
      .catch((error: unknown) => {
        if (!closed) setState((now) => ({ ...now, error }));
      });

    return () => {
      closed = true;
      clearTimeout(timer);
      stream?.close();
    };
  }, [taskId]);

  return { buffer: buffer.current, ...state };
}
