/** Where the API is: one level above the page, whatever prefix a proxy puts before both. */
export function apiUrl(path: string, page: string = document.baseURI): string {
  return new URL(`..${path}`, pageFolder(page)).href;
}

function pageFolder(page: string): string {
  const url = new URL(page);
  const below = url.pathname.indexOf("/ui/");
  // `npm run dev` serves the page at the root, beside the API.
  url.pathname = below < 0 ? "/ui/" : url.pathname.slice(0, below + "/ui/".length);
  url.search = url.hash = "";
  return url.href;
}
