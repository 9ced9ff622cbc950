// The text of files that the reader pastes or drops, as fenced blocks for a question.

const LARGEST = 200_000; // bytes of a file

/** Returns {text} with the file's name and its text in a fence, or {refusal} with a sentence why there is none. */
export async function textOf(file) {
  const { size, type } = file;
  const name = file.name.replace(/[\p{C}`]/gu, " ").trim() || "file";
  if (/^(image\/(?!svg)|video\/|audio\/)/.test(type)) {
    const kind = type.startsWith("image/") ? "Images" : "Recordings";
    return { refusal: `${kind} cannot be read here. Paste the text that matters instead.` };
  }
  if (size > LARGEST) {
    return { refusal: `“${name}” is larger than ${LARGEST / 1000} kB. Paste the part that your question is about.` };
  }
  const text = await file.arrayBuffer().then((bytes) => decoded(bytes, type), () => null); // a folder has no bytes
  if (text === null) return { refusal: `“${name}” is not a text file. Paste its text instead.` };
  const longest = Math.max(2, ...(text.match(/`{3,}/g) ?? []).map((run) => run.length));
  const fence = "`".repeat(longest + 1);
  const [, language = ""] = /\.(\w{1,12})$/.exec(name) ?? [];
  return { text: `\`${name}\`:\n\n${fence}${language.toLowerCase()}\n${text.replace(/\n*$/, "\n")}${fence}\n` };
}

/** The text of UTF-8, or of an older encoding if the type says that it is text. null if it is no text. */
function decoded(bytes, type) {
  let text;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    if (!type.startsWith("text/")) return null;
    text = new TextDecoder("windows-1252").decode(bytes);
  }
  return text.includes("\0") ? null : text.replaceAll(/\r\n?/g, "\n");
}

/**
 * The files that were pasted or dropped. None if they come with text, because Word and browsers add a picture
 * of what was copied. The name of the file alone, which some systems add, is not such a text.
 */
export function filesOf(data) {
  const lines = data.getData("text/plain").trim().split(/\s*\n/);
  return [...data.files].filter(({ name }) => lines.some((line) => line === "" || line.endsWith(name)));
}
