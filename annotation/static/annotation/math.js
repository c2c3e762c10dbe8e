/* What rendered Markdown (class "md") gets in the browser: typeset formulas, copy buttons, and scrollers for the keyboard.
 *
 * KaTeX is loaded when the first formula is there and not before. Its addresses stand, with their hashed names, in two
 * attributes of one element of the page, <main> being the natural one:
 *   data-katex-js="{% static 'annotation/vendor/katex/katex.min.js' %}"
 *   data-katex-css="{% static 'annotation/vendor/katex/katex.min.css' %}"
 * The functions may be given a piece of a page before it is shown: that way nothing moves. A second call does nothing.
 */
const LONGEST_TEX = 4000;
const MOST_AT_ONCE_MS = 1500;
const OPTIONS = { trust: false, throwOnError: false, strict: "ignore", maxSize: 20, maxExpand: 200, errorColor: "var(--bad)" };
const COPIED_STAYS = 2000;
const FONTS = ["1em KaTeX_Main", "italic 1em KaTeX_Math"]; // most formulas need these: coming later, they would move words
let loading;

/* Typeset the .math elements of `root`. Each keeps its TeX in data-tex: it is what the server counts as its text.
 * A formula stays as its source where it is very long or no TeX, where something in it is masked or unseen, or where
 * KaTeX cannot be loaded; the rest of a page full of formulas that takes too long stays so as well. */
export async function renderMath(root) {
  const formulas = [...root.querySelectorAll(".math:not([data-tex])")].filter(
    (formula) => formula.textContent.length <= LONGEST_TEX && !formula.querySelector(".mask, .bidi, .control"),
  );
  if (!formulas.length) return;
  let katex;
  try {
    katex = await (loading ??= load());
  } catch {
    loading = undefined; // a lost network is tried again with the next formula
    return;
  }
  const until = performance.now() + MOST_AT_ONCE_MS;
  for (const formula of formulas) {
    if (performance.now() > until) return;
    if (!("tex" in formula.dataset)) typeset(formula, katex);
  }
}

async function load() {
  const { katexJs, katexCss } = document.querySelector("[data-katex-js]").dataset;
  const sheet = Object.assign(document.createElement("link"), { rel: "stylesheet", href: katexCss });
  const styled = new Promise((resolve) => { sheet.onload = sheet.onerror = resolve; });
  document.head.append(sheet);
  await Promise.all([import(new URL(katexJs, document.baseURI).href), styled]);
  await Promise.all(FONTS.map((font) => document.fonts.load(font)));
  return globalThis.katex;
}

function typeset(formula, katex) {
  const tex = formula.textContent;
  let node;
  try {
    const tree = katex.__renderToDomTree(tex, { ...OPTIONS, displayMode: formula.classList.contains("block") });
    setStylesAside(tree);
    node = tree.toNode();
  } catch {
    return; // nested too deeply for it
  }
  if (node.classList.contains("katex-error")) return;
  node.querySelectorAll("[data-css]").forEach((part) => {
    part.style.cssText = part.dataset.css;
    part.removeAttribute("data-css");
  });
  formula.dataset.tex = tex;
  formula.classList.add("typeset");
  formula.replaceChildren(node);
}

/* KaTeX writes the style attributes of tall brackets and of a few commands as attributes, which the content security
 * policy refuses; through element.style they may be set. */
function setStylesAside(tree) {
  if (tree.attributes?.style) {
    tree.attributes["data-css"] = tree.attributes.style;
    delete tree.attributes.style;
  }
  tree.children?.forEach(setStylesAside);
}

/* A button on each code block; `labels` are {copy, copied}, in the page's language. The buttons bear data-ui, as all
 * that is no part of the text. Where there is no clipboard (plain HTTP elsewhere than on localhost), none is added. */
export function addCopyButtons(root, labels) {
  if (!navigator.clipboard) return;
  root.querySelectorAll("pre.code").forEach((block) => {
    if (block.parentElement.classList.contains("code-box")) return;
    const box = Object.assign(document.createElement("div"), { className: "code-box" });
    block.before(box);
    box.append(block, copyButton(block, labels));
  });
}

function copyButton(block, labels) {
  const button = Object.assign(document.createElement("button"), { type: "button", className: "copy", textContent: labels.copy });
  button.dataset.ui = "";
  button.setAttribute("aria-live", "polite");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(block.textContent.replace(/\n$/, ""));
    } catch {
      return; // the browser refused: the button goes on saying "copy"
    }
    button.textContent = labels.copied;
    setTimeout(() => { button.textContent = labels.copy; }, COPIED_STAYS);
  });
  return button;
}

/* Tables, code and formulas that are wider than their column can be scrolled by keyboard; `labels` are {table, code,
 * formula}. To be called once `root` is shown: before that nothing has a width. */
export function makeScrollable(root, labels) {
  const kinds = [[".table", labels.table], ["pre.code", labels.code], [".math.block", labels.formula]];
  for (const [selector, label] of kinds) {
    root.querySelectorAll(selector).forEach((part) => {
      if (part.scrollWidth <= part.clientWidth || part.hasAttribute("tabindex")) return;
      part.tabIndex = 0;
      part.setAttribute("role", "region");
      part.setAttribute("aria-label", label);
    });
  }
}
