import { Empty, Skeleton, theme } from 'antd';
import { useMemo } from 'react';
import { useTranslation } from 'react-i18next';
import { ErrorNotice } from '../../shared/ErrorNotice';
import { formatLoss, formatRate } from '../../shared/format';
import { Chart, type Series } from './Chart';
import { smooth, useMetrics } from './metrics';

/** From this many points on, the raw loss is a cloud and its average is the line. */
const SMOOTH_FROM = 30;

/** Loss, evaluation loss, learning rate and gradient norm over the steps. */
export default function ChartsTab({ taskId }: { taskId: string }) {
  const { t } = useTranslation();
  const { token } = theme.useToken();
  const { data, error } = useMetrics(taskId);

  const charts = useMemo(() => {
    if (!data) return [];
    const { train } = data;
    const steps = train.map(({ step }) => step);
    const losses = train.map(({ loss }) => loss);
    const noisy = losses.length >= SMOOTH_FROM;
    const loss: Series[] = noisy
      ? [
          { label: t('chart.loss'), values: losses, color: token.colorPrimaryBorder, width: 1 },
          {
            label: t('chart.smoothed'),
            values: smooth(losses, Math.ceil(losses.length / 24)),
            color: token.colorPrimary,
            width: 2,
          },
        ]
      : [{ label: t('chart.loss'), values: losses, color: token.colorPrimary, width: 2, points: losses.length < 2 }];
    const line = (key: 'learning_rate' | 'grad_norm', label: string, color: string) => ({
      title: label,
      steps,
      series: [{ label, values: train.map((point) => point[key]), color }],
    });
    return [
      { title: t('chart.loss'), steps, series: loss, format: formatLoss },
      {
        title: t('chart.evalLoss'),
        steps: data.eval.map(({ step }) => step),
        series: [
          {
            label: t('chart.evalLoss'),
            values: data.eval.map((point) => point.loss),
            color: token.orange6,
            points: true,
          },
        ],
        format: formatLoss,
      },
      { ...line('learning_rate', t('chart.learningRate'), token.purple6), format: formatRate },
      { ...line('grad_norm', t('chart.gradNorm'), token.cyan6), format: (value: number) => value.toFixed(3) },
    ].filter(({ series }) => series[0].values.some((value) => value !== null));
  }, [data, t, token]);

  if (error && !data) return <ErrorNotice error={error} />;
  if (!data) return <Skeleton active paragraph={{ rows: 8 }} />;
  if (charts.length === 0) return <Empty image={Empty.PRESENTED_IMAGE_SIMPLE} description={t('chart.empty')} />;
  return (
    <div className="charts">
      {charts.map((chart) => (
        <Chart key={chart.title} {...chart} stepLabel={t('chart.step')} group={taskId} />
      ))}
    </div>
  );
}
