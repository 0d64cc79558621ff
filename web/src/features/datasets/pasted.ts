/** A name for pasted text: JSON when it is one array, JSON lines otherwise. */
export function pastedFilename(text: string, at: Date): string {
  const stamp = at.toISOString().slice(0, 19).replace(/[-:]/g, '').replace('T', '-');
  return `pasted-${stamp}.${text.trimStart().startsWith('[') ? 'json' : 'jsonl'}`;
}
