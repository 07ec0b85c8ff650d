// Small parts of pages: finding elements, writing times, drawing curves.

/** The element of an id, which must be of a type. */
export function element<T extends HTMLElement>(id: string, type: abstract new () => T): T {
  const found = document.getElementById(id);
  if (!(found instanceof type)) {
    throw new Error(`the page has no ${type.name} called ${id}`);
  }
  return found;
}

/** A number of seconds for people. */
export function seconds(s: number): string {
  return s < 60 ? `${s.toFixed(s < 10 ? 1 : 0)} s` : `${Math.floor(s / 60)} min ${Math.round(s % 60)} s`;
}

const svg = "http://www.w3.org/2000/svg";

export const curve = {
  /** Draws values as a line that fills the picture. */
  draw(picture: SVGSVGElement, values: number[]): void {
    const { width, height } = picture.viewBox.baseVal;
    const low = Math.min(...values, 0);
    const high = Math.max(...values, low + 1e-9);
    const line = document.createElementNS(svg, "polyline");
    line.setAttribute(
      "points",
      values
        .map((v, i) => `${(4 + ((width - 8) * i) / Math.max(values.length - 1, 1)).toFixed(1)},${(height - 4 - ((height - 8) * (v - low)) / (high - low)).toFixed(1)}`)
        .join(" "),
    );
    const title = document.createElementNS(svg, "title");
    title.textContent = values.length > 0 ? `from ${values[0]!.toPrecision(3)} to ${values.at(-1)!.toPrecision(3)} in ${values.length} steps` : "nothing learned yet";
    picture.replaceChildren(title, line);
  },

  /** A dot of a colour. */
  dot(colour: [number, number, number]): SVGSVGElement {
    const picture = document.createElementNS(svg, "svg");
    picture.setAttribute("viewBox", "0 0 10 10");
    picture.setAttribute("aria-hidden", "true");
    const circle = document.createElementNS(svg, "circle");
    for (const [name, value] of Object.entries({ cx: 5, cy: 5, r: 5, fill: `rgb(${colour.join(",")})` })) {
      circle.setAttribute(name, String(value));
    }
    picture.append(circle);
    return picture;
  },
};
