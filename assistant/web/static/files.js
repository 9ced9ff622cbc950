// The text of files that the reader pastes or drops, as fenced blocks for a question.

const LARGEST = 200_000; // bytes of a file

/** Returns {text} with the file's name and its text in a fence, or {refusal} with a sentence why there is none. */
export async function textOf(file) {
  const { size, type } = file;
  const name = file.name.replace(/[\p{C}`]/gu, " ").trim() || "file";
  // Other types say little: to browsers, TypeScript is a video.
  if (/^image\/(?!svg)/.test(type)) {
    return { refusal: "Images cannot be read here. Paste the text that matters instead." };
  }
  if (size > LARGEST) {
    return { refusal: `“${name}” is larger than ${LARGEST / 1000} kB. Paste the part that your question is about.` };
  }
  const text = await file.arrayBuffer().then((bytes) => decoded(bytes, type), () => null); // a folder has no bytes
  if (text === null) return { refusal: `“${name}” is not a text file. Paste its text instead.` };
  const longest = Math.max(2, ...(text.match(/`{3,}/g) ?? []).map((run) => run.length));
  const fence = "`".repeat(longest + 1);
  const [, language = ""] = /\.(\w{1,12})$/.exec(name) ?? [];
  return { text: `\`${name}\`:\n\n${fence}${language.toLowerCase()}\n${text}${text.endsWith("\n") ? "" : "\n"}${fence}\n` };
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
 * The files that were pasted. None if they come with text, because Word and browsers add a picture of what was
 * copied. The name of the file alone, which some systems add, is not such a text.
 */
export function pastedFiles(data) {
  const text = data.getData("text/plain").trim();
  return [...data.files].filter(({ name }) => text === "" || text.split("\n").some((line) => line.trim().endsWith(name)));
}
