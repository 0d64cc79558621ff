import type { Language } from '../../i18n';

/**
 * The studio's sentence is the one that the first generation's clients know, in Chinese. These are its building blocks;
 * what is not among them (model and card names) stays as it is.
 */
const ENGLISH: [RegExp, string][] = [
  [/（模拟 GPU）$/, ' (simulated GPUs)'],
  [
    /^检测到 (\d+) 块 GPU（总显存 ([\d.]+)GB）：支持多卡并行训练/,
    '$1 GPUs found ($2 GB in total): training on several cards is possible',
  ],
  [/^CPU 模式（不推荐微调）$/, 'CPU only (not recommended for fine-tuning)'],
  [/^GPU 检测失败: /, 'GPU detection failed: '],
  [/推荐 /g, 'recommended: '],
  [/（最佳平衡）/g, ' (best balance)'],
  [/（最快训练）/g, ' (fastest training)'],
  [/ ?或 /g, ' or '],
];

export function recommendationIn(language: Language, sentence: string): string {
  if (language === 'zh-CN') return sentence;
  return ENGLISH.reduce((text, [pattern, english]) => text.replace(pattern, english), sentence);
}
