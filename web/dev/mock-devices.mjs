// The make-believe studio's GPUs. MACHINE=h100: eight of them in every state there is; else DEVICES RTX 3060 (0: none).

export const GIB = 1024 ** 3;
export const MACHINE = process.env.MACHINE ?? 'rtx3060';
const COUNT = Number(process.env.DEVICES ?? 1);

const xidAt = new Date(Date.now() - 3_600_000).toISOString();
const bootedAt = Date.now();

function card(index, name, gib, more = {}) {
  return {
    id: `GPU-${String(index).repeat(8)}-6a5b-4c3d-9e8f-0123456789ab`,
    kind: MACHINE === 'h100' ? 'nvidia' : 'simulated',
    index,
    name,
    pci_bus_id: `00000000:${String(16 + index)}:00.0`,
    architecture: MACHINE === 'h100' ? 'Hopper' : 'Ampere',
    mig: null,
    unified_memory: false,
    total: Math.round(gib * GIB),
    reserved: Math.round(gib * 0.008 * GIB),
    others: [],
    unattributed: 0,
    clocks: { graphics_mhz: 345, memory_mhz: 2619 },
    health: { uncorrected_ecc_errors: 0, row_remap_pending: false, last_xid: null },
    unusable: null,
    hungSince: null,
    lost: false,
    tasks: new Map(), // id -> { grant, used }
    ...more,
  };
}

const processOf = (pid, name, user, command, gib, service = null) => ({
  pid,
  name,
  user,
  command,
  bytes: gib === null ? null : Math.round(gib * GIB),
  task_id: null,
  service,
});

const H100 = 'NVIDIA H100 80GB HBM3';
const slice = (index, instance) =>
  card(index + instance - 1, `${H100} MIG 3g.40gb`, 39.4, {
    id: `MIG-${instance}2222222-6a5b-4c3d-9e8f-0123456789ab`,
    mig: {
      parent: `GPU-${String(index).repeat(8)}-0000-4c3d-9e8f-0123456789ab`,
      profile: '3g.40gb',
      gpu_instance: instance,
      compute_instance: 0,
    },
  });

const eight = () => [
  card(0, H100, 79.6, {
    others: [processOf(41233, 'python3', 'li', 'python3 pretrain.py --config big.yaml --resume', 61e9 / GIB)],
    clocks: { graphics_mhz: 1980, memory_mhz: 2619 },
  }),
  card(1, H100, 79.6, {
    others: [processOf(2204, 'vllm', 'svc', 'vllm serve Qwen/Qwen2.5-7B-Instruct --port 8000', 34.2, 'vLLM')],
  }),
  slice(2, 1),
  slice(2, 2),
  card(4, H100, 79.6, {
    hungSince: Date.now() - 32_000,
    others: [processOf(991, 'train', 'chen', './train --forever', 12.5)],
    unusable: {
      code: 'gpu-not-answering',
      zh: 'GPU 驱动已有 32 秒没有应答，显示的是当时的数据。请运行 nvidia-smi 检查；若同样无响应，请结束使用该 GPU 的程序或重启机器。',
      en: 'the GPU driver has not answered for 32 s; the figures are from then. Run nvidia-smi to check; if it hangs too, end the programs that use the GPU or restart the machine.',
    },
  }),
  card(5, H100, 79.6, {
    lost: true,
    unusable: {
      code: 'gpu-lost',
      zh: 'GPU 已从总线上断开。请检查供电和散热，然后重启机器。',
      en: 'the GPU fell off the bus. Check its power and cooling, then restart the machine.',
    },
    health: { uncorrected_ecc_errors: null, row_remap_pending: null, last_xid: { code: 79, at: xidAt } },
  }),
  card(6, H100, 79.6, { health: { uncorrected_ecc_errors: 3, row_remap_pending: true, last_xid: null } }),
  card(7, H100, 79.6, {
    unattributed: 2.3 * GIB,
    others: [processOf(7001, null, null, null, null)],
  }),
  card(8, H100, 79.6),
];

const small = (_, index) =>
  card(index, 'NVIDIA GeForce RTX 3060', 12, {
    others: [processOf(2211, 'gnome-shell', 'wang', '/usr/bin/gnome-shell', 0.9)],
    unattributed: 0.2 * GIB,
    health: { uncorrected_ecc_errors: null, row_remap_pending: null, last_xid: null },
  });

const cards = MACHINE === 'h100' ? eight() : Array.from({ length: COUNT }, small);

const promised = (found) =>
  [...found.tasks.values()].reduce((sum, { grant, used }) => sum + Math.max(0, grant - used), 0);
const others = (found) => found.others.reduce((sum, { bytes }) => sum + (bytes ?? 1.5 * GIB), found.unattributed);
const used = (found) => others(found) + [...found.tasks.values()].reduce((sum, task) => sum + task.used, 0);
const free = (found) => found.total - found.reserved - used(found);
export const usable = () => cards.filter(({ unusable }) => unusable === null);
export const freeForTasks = (found) => (found.unusable ? null : Math.max(0, free(found) - promised(found)));
export const emptyRoom = (found) => found.total - found.reserved;
export const hasCards = cards.length > 0;

/** The device with the most room for so many bytes; none: it waits. */
export function place(bytes) {
  const fits = usable().filter((found) => freeForTasks(found) >= bytes);
  return fits.sort((a, b) => freeForTasks(b) - freeForTasks(a))[0] ?? null;
}

/** The one that comes nearest, with who has its memory. */
export function nearest() {
  const [found] = usable().sort((a, b) => freeForTasks(b) - freeForTasks(a));
  if (!found) return null;
  const ours = [...found.tasks].map(([task_id, { grant }]) => ({ pid: null, name: null, bytes: grant, task_id }));
  const foreign = found.others.map(({ pid, name, bytes }) => ({ pid, name, bytes, task_id: null }));
  return { name: `GPU ${found.index}`, free: freeForTasks(found), holders: [...ours, ...foreign] };
}

export const grant = (found, id, bytes) => found.tasks.set(id, { grant: bytes, used: 0 });
export function release(id) {
  for (const found of cards) found.tasks.delete(id);
}
export function use(id, bytes) {
  for (const found of cards) if (found.tasks.has(id)) found.tasks.get(id).used = bytes;
}

function view(found) {
  const { total, reserved, others: _o, unattributed, hungSince, lost, tasks, health, clocks, ...plain } = found;
  const busy = tasks.size > 0 || found.others.some(({ bytes }) => bytes > 10 * GIB);
  const age = hungSince ? (Date.now() - hungSince) / 1000 : ((Date.now() - bootedAt) % 1000) / 1000;
  const hidden = found.others.some(({ bytes }) => bytes === null);
  return {
    ...plain,
    clocks: lost ? null : busy ? { ...clocks, graphics_mhz: 1755 } : clocks,
    health,
    taken_at: new Date(Date.now() - 1000 * age).toISOString(),
    age_seconds: age,
    memory: lost ? null : { total, reserved, used: used(found), free: free(found) },
    free_for_tasks_bytes: lost ? null : freeForTasks(found),
    utilisation_percent: lost || plain.mig ? null : busy ? 90 + Math.floor(Math.random() * 10) : 0,
    temperature_celsius: lost ? null : busy ? 68 : 34,
    power_watts: lost ? null : busy ? 158.3 * (total > 40 * GIB ? 4 : 1) : 68.4,
    processes: lost
      ? []
      : [
          ...[...tasks].map(([task_id, { used: bytes }], index) => ({
            ...processOf(5000 + index + 10 * plain.index, 'sage', 'wang', `sage train --task ${task_id}`, bytes / GIB),
            task_id,
          })),
          ...found.others,
        ],
    unattributed_bytes: lost || hidden ? null : unattributed,
    grants: [...tasks].map(([task_id, { grant: bytes }]) => ({ task_id, bytes })),
    task_id: [...tasks.keys()][0] ?? null,
  };
}

export const devicesView = () => ({
  detecting: false,
  age_seconds: 0.4,
  devices: cards.map(view),
  simulated: hasCards && MACHINE !== 'h100',
  recommendation: recommendation(),
  findings: hasCards
    ? []
    : [
        {
          code: 'no_driver',
          zh: '没有找到 NVIDIA 驱动（libnvidia-ml.so.1）。安装显卡驱动后重启 Studio。',
          en: 'No NVIDIA driver was found (libnvidia-ml.so.1). Install the driver, then restart the studio.',
        },
      ],
});

function recommendation() {
  if (!hasCards) return 'CPU 模式（不推荐微调）';
  const total = cards.reduce((sum, found) => sum + found.total, 0) / GIB;
  if (cards.length > 1) return `检测到 ${cards.length} 块 GPU（总显存 ${total.toFixed(1)}GB）：支持多卡并行训练`;
  return `${cards[0].name} (${total.toFixed(1)}GB): 推荐 Qwen 2.5 Coder 1.5B（最佳平衡）或 0.5B（最快训练）`;
}

const line = (subject, status, zh, en, next_zh = '', next_en = '') => ({ subject, status, zh, en, next_zh, next_en });

export const doctor = () => [
  line('nvidia-driver', 'ok', 'NVIDIA 驱动 570.86 已加载。', 'The NVIDIA driver 570.86 is loaded.'),
  line('nvidia-library', 'ok', '程序库与驱动版本一致。', 'Library and driver have the same version.'),
  line(
    'permissions',
    'problem',
    '当前用户不能读取 /dev/nvidia-caps。',
    'This user may not read /dev/nvidia-caps.',
    '将用户加入 video 组后重新登录。',
    'Add the user to the group video and sign in again.',
  ),
  line(
    'containers',
    'note',
    'Studio 在容器中运行，看不到其他容器的进程名。',
    'The studio runs in a container and cannot see names of processes in others.',
  ),
];
