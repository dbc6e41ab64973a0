// Keeps the end of what scrolls in sight: the newest is there.
import { useEffect, useLayoutEffect, useRef } from "../html.mjs";

const NEAR = 20; // pixels
const SIDES = /** @type {const} */ ({
  Left: ["scrollLeft", "clientWidth", "scrollWidth"],
  Top: ["scrollTop", "clientHeight", "scrollHeight"],
});

/**
 * The end stays in sight while its content grows, and when its place on the page or its size changes, unless somebody
 * has scrolled away from it.
 * @param {"Left"|"Top"} side  that is scrolled away from: "Left" of what scrolls sideways
 * @param {any} version  changes with the content
 * @returns {{ref: {current: HTMLElement|null}, onScroll: () => void}}  for the element that scrolls
 */
export function useEnd(side, version) {
  const [place, visible, whole] = SIDES[side];
  const ref = useRef(/** @type {HTMLElement|null} */ (null));
  const atEnd = useRef(true);
  const size = useRef("");
  const sizeOf = (/** @type {HTMLElement} */ { clientWidth, clientHeight }) => `${clientWidth} ${clientHeight}`;
  const toEnd = () => {
    if (!ref.current) return;
    size.current = sizeOf(ref.current);
    if (atEnd.current) ref.current[place] = ref.current[whole];
  };
  useLayoutEffect(toEnd, [version]);
  useEffect(() => {
    const observer = new ResizeObserver(toEnd);
    if (ref.current) observer.observe(ref.current);
    return () => observer.disconnect();
  }, []);
  return {
    ref,
    onScroll: () => {
      const element = ref.current;
      // An element that is put elsewhere on the page is scrolled back by that; nobody did it.
      if (!element || sizeOf(element) !== size.current) return;
      atEnd.current = element[place] + element[visible] > element[whole] - NEAR;
    },
  };
}
