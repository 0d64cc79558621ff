// Rough figures, good enough to look at.

import { emptyRoom, freeForTasks, GIB, usable } from './mock-devices.mjs';

const MODELS = [
  'Qwen/Qwen2.5-14B-Instruct',
  'Qwen/Qwen2.5-7B-Instruct',
  'Qwen/Qwen2.5-Coder-1.5B-Instruct',
  'Qwen/Qwen2.5-Coder-0.5B-Instruct',
];
const METHODS = {
  lora: { method: 'lora', load_in_8bit: false, load_in_4bit: false },
  qlora8: { method: 'lora', load_in_8bit: true, load_in_4bit: false },
  qlora4: { method: 'lora', load_in_8bit: false, load_in_4bit: true },
  full: { method: 'full', load_in_8bit: false, load_in_4bit: false },
};

const parametersOf = (model) => {
  const found = /(\d+(?:\.\d+)?)\s*b\b/i.exec(model);
  return found ? Number(found[1]) * 1e9 : null;
};

export function estimateOf(request) {
  const parameters = parametersOf(request.model_name);
  if (parameters === null) return null;
  const { batch_size = 1, max_length = 1024, lora_rank = 8, method = 'lora' } = request;
  const full = method === 'full';
  const bits = full ? 16 : request.load_in_4bit ? 4.5 : (request.load_in_8bit ?? true) ? 8 : 16;
  const adapters = full ? 0 : 1.6e-3 * parameters * lora_rank * 2;
  const trained = full ? parameters : adapters / 2;
  const tokens = batch_size * max_length;
  const checkpointing = request.gradient_checkpointing ?? true;
  const breakdown = {
    weights: Math.round((parameters * bits) / 8),
    adapters: Math.round(adapters),
    gradients: Math.round(trained * 2),
    optimizer: Math.round(trained * 8),
    activations: Math.round(tokens * Math.sqrt(parameters) * (checkpointing ? 9 : 60)),
    logits: Math.round(request.loss === 'hf' ? tokens * 152_000 * 8 : tokens * 40_000),
    workspace: Math.round(0.1 * GIB),
    slack: Math.round(0.2 * GIB),
    context: Math.round(0.45 * GIB),
  };
  const footprint = Object.values(breakdown).reduce((sum, part) => sum + part, 0);
  const seconds = (6 * parameters * tokens * (request.gradient_accumulation_steps ?? 16)) / 2.2e14;
  const steps = 40 * (request.num_epochs ?? 3);
  return {
    allocated_bytes: footprint - breakdown.slack - breakdown.context,
    footprint_bytes: footprint,
    footprint_low_bytes: Math.round(footprint * 0.94),
    footprint_high_bytes: Math.round(footprint * 1.09),
    grant_bytes: Math.round(footprint * 1.12),
    seconds_per_step: seconds,
    total_seconds: request.dataset_file ? seconds * steps : null,
    basis: parameters < 1e9 ? 'history' : 'formula',
    runs: parameters < 1e9 ? 4 : null,
    breakdown,
  };
}

const gib = (bytes) => `${(bytes / GIB).toFixed(1)} GiB`;

export function verdictOf(estimate, cards = usable()) {
  if (!estimate) {
    return {
      code: 'unknown',
      zh: '模型的结构要到下载之后才知道，暂时无法估计。',
      en: 'The shape of the model is not known before it is fetched.',
    };
  }
  const need = estimate.grant_bytes;
  const now = Math.max(0, ...cards.map(freeForTasks));
  const empty = Math.max(0, ...cards.map(emptyRoom));
  if (need <= now)
    return {
      code: 'fits_now',
      zh: `现在可以运行：需要 ${gib(need)}，空闲 ${gib(now)}。`,
      en: `fits now: it needs ${gib(need)}, and ${gib(now)} are free`,
    };
  if (need <= empty)
    return {
      code: 'fits_when_free',
      zh: `显卡空出后可以：需要 ${gib(need)}，现在只有 ${gib(now)} 空闲`,
      en: `fits once a card is free: it needs ${gib(need)}, and ${gib(now)} are free now`,
    };
  return {
    code: 'does_not_fit',
    zh: `放不下：需要 ${gib(need)}，最大的显卡也只有 ${gib(empty)}`,
    en: `does not fit: it needs ${gib(need)}, and the largest card has ${gib(empty)}`,
  };
}

function largest(request, key, values) {
  return (
    values.findLast((value) => verdictOf(estimateOf({ ...request, [key]: value })).code !== 'does_not_fit') ?? null
  );
}
const longest = (request) => largest(request, 'max_length', [256, 512, 1024, 2048, 4096, 8192, 16384, 32768]);
const widest = (request) => largest(request, 'batch_size', [1, 2, 4, 8, 16, 32]);

export function alternativesOf(request) {
  const { batch_size = 1, gradient_accumulation_steps: steps = 16 } = request;
  const tries = [
    ['micro-batch 1', '微批大小 1', { batch_size: 1, gradient_accumulation_steps: batch_size * steps }],
    ['4-bit weights', '4 位权重', { ...METHODS.qlora4, trainer: 'peft' }],
    [
      'LoRA instead of all weights, 4-bit',
      '改用 LoRA，4 位权重',
      { ...METHODS.qlora4, batch_size: 1, trainer: 'peft' },
    ],
    ['4-bit weights, length 512', '4 位权重，最大长度 512', { ...METHODS.qlora4, batch_size: 1, max_length: 512 }],
  ];
  return tries
    .map(([changes_en, changes_zh, patch]) => {
      const estimate = estimateOf({ ...request, ...patch });
      return { changes_zh, changes_en, patch, estimate, verdict: verdictOf(estimate) };
    })
    .filter(({ verdict }) => verdict.code !== 'does_not_fit')
    .slice(0, 3);
}

export function trainerOf(request) {
  const small = (parametersOf(request.model_name) ?? 0) < 1e9;
  const name = request.trainer ?? (small ? 'builtin' : 'peft');
  if (request.trainer) return { name, zh: '按你的选择。', en: 'as you chose.' };
  return small
    ? { name, zh: '模型很小，内置训练器无需安装。', en: 'a small model; nothing need be installed for it.' }
    : { name, zh: '8 位和 4 位需要 PEFT。', en: 'weights of 8 or 4 bits need it.' };
}

export function answerEstimate(request) {
  const estimate = estimateOf(request);
  const verdict = verdictOf(estimate);
  return {
    trainer: trainerOf(request),
    estimate,
    verdict,
    largest_max_length: estimate && longest(request),
    largest_batch_size: estimate && widest(request),
    alternatives: verdict.code === 'does_not_fit' ? alternativesOf(request) : [],
    warnings: [],
  };
}

export function recommendations(dataset) {
  const one = (card, model_name, method) => {
    const request = {
      model_name,
      dataset_file: dataset ?? '',
      preset: 'balanced',
      ...METHODS[method],
      max_length: 1024,
    };
    const estimate = estimateOf(request);
    const verdict = verdictOf(estimate, [card]);
    const fits = verdict.code !== 'does_not_fit';
    return {
      device: card.id,
      gpus: 1,
      model_name,
      parameters: parametersOf(model_name),
      method,
      verdict,
      estimate,
      largest_max_length: fits ? longest(request) : null,
      largest_batch_size: fits ? widest(request) : null,
      request: fits ? request : null,
    };
  };
  return {
    detecting: false,
    recommendations: usable().flatMap((card) =>
      MODELS.flatMap((model) => Object.keys(METHODS).map((method) => one(card, model, method))),
    ),
  };
}
