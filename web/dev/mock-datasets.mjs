// The make-believe studio's data sets.

export const datasets = new Map();
const now = () => new Date().toISOString();

export class Refusal extends Error {
  constructor(status, code, detail, next_step) {
    super(detail);
    Object.assign(this, { status, body: { detail, code, next_step } });
  }
}

export function storeDataset(filename, content) {
  if (!/\.jsonl?$/.test(filename))
    throw new Refusal(400, 'dataset_name', `${filename}: 只支持 .json 和 .jsonl 文件`, '把文件改名后再上传');
  const rows = [];
  if (filename.endsWith('.jsonl')) {
    content.split('\n').forEach((line, index) => {
      if (!line.trim()) return;
      try {
        rows.push(JSON.parse(line));
      } catch (error) {
        throw new Refusal(
          400,
          'dataset_invalid',
          `line ${index + 1}: not valid JSON: ${error.message}`,
          'Write one JSON object per line.',
        );
      }
    });
  } else {
    rows.push(...JSON.parse(content));
  }
  const bad = rows.findIndex((row) => !('output' in row || 'messages' in row || 'conversations' in row));
  if (bad >= 0)
    throw new Refusal(
      400,
      'dataset_invalid',
      `line ${bad + 1}: the field "output" is missing`,
      'Give every example an answer.',
    );
  const view = {
    path: `/home/wang/.sage/uploads/${filename}`,
    filename,
    bytes: Buffer.byteLength(content),
    format: 'alpaca',
    examples: rows.length,
    uploaded_at: now(),
    preview: rows.slice(0, 3).map((row) => ({
      prompt: [row.instruction, row.input].filter(Boolean).join('\n') || row.messages?.[0]?.content,
      answer: row.output ?? row.messages?.at(-1)?.content,
    })),
  };
  datasets.set(filename, view);
  return view;
}

export function fileOf(body, contentType) {
  const boundary = /boundary=(.+)$/.exec(contentType)?.[1];
  const part = body.split(`--${boundary}`)[1];
  const [head] = part.split('\r\n\r\n', 1);
  return { filename: /filename="([^"]+)"/.exec(head)[1], content: part.slice(head.length + 4, -2) };
}

storeDataset(
  'support-faq.jsonl',
  [
    '{"instruction":"How do I reset my password?","output":"Open Settings, then Security, and choose Reset."}',
    '{"instruction":"怎样开具发票？","output":"在订单详情页点击“申请发票”，填写抬头后提交即可。"}',
    '{"instruction":"Can I change the delivery address?","input":"The parcel has left the warehouse.","output":"Yes: call the courier with the number in your confirmation mail."}',
  ].join('\n'),
);
