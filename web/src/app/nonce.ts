/** The number that the studio draws for each answer; its content security policy asks it of styles that scripts make. */
export const nonce = document.querySelector<HTMLMetaElement>('meta[property="csp-nonce"]')?.nonce;

// Some of antd's parts make styles without asking for it: those that hold the page still under a drawer, for one.
const create = document.createElement.bind(document);
document.createElement = (name: string, options?: ElementCreationOptions): HTMLElement => {
  const element = create(name, options);
  if (nonce && element instanceof HTMLStyleElement) element.nonce = nonce;
  return element;
};
