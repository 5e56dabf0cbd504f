/** Lists that come in pages, each as one iterable. A page is asked for when the one before it is used up, so a list of any length takes the memory of one. */

/** Items of a page. */
export const PAGE = 500;

/** `next` is the item behind which the next page begins; `null`: there is none. */
export interface Page<T> {
  items: T[];
  next: string | null;
}

export async function* paged<T>(ask: (after: { after?: string }) => Promise<Page<T>>): AsyncGenerator<T, void, undefined> {
  let next: string | null = null;
  do {
    const page: Page<T> = await ask(next === null ? {} : { after: next });
    yield* page.items;
    next = page.next;
  } while (next !== null);
}
