/**
 * Program and arguments as a shell would take them apart, by spaces and quotes; nothing is expanded. `null`: a quote is
 * not closed.
 */
export function splitLine(line: string): string[] | null {
  const words: string[] = [];
  /** `null` between two words; '' is a word, as in `--name ""`. */
  let word: string | null = null;
  let quote: string | null = null;
  for (let at = 0; at < line.length; at += 1) {
    const letter = line[at];
    if (quote !== null) {
      if (letter === quote) quote = null;
      else if (quote === '"' && letter === '\\' && (line[at + 1] === '"' || line[at + 1] === '\\')) word += line[++at];
      else word += letter;
    } else if (letter === '"' || letter === "'") {
      quote = letter;
      word ??= '';
    } else if (letter === '\\' && at + 1 < line.length) {
      at += 1;
      // The end of a line that goes on in the next.
      if (line[at] !== '\n') word = (word ?? '') + line[at];
    } else if (/\s/.test(letter)) {
      if (word !== null) words.push(word);
      word = null;
    } else {
      word = (word ?? '') + letter;
    }
  }
  if (quote !== null) return null;
  return word === null ? words : [...words, word];
}
