// Draws folded stacks, `main;work;read 12` to a line, as boxes: as wide as their share, callers above.
type Frame = { name: string; count: number; below: Map<string, Frame> };

function fold(stacks: string): Frame {
    const all: Frame = { name: "all", count: 0, below: new Map() };
    for (const line of stacks.split("\n")) {
        const [, names, count] = /^(.*) (\d+)$/.exec(line) ?? [];
        if (!names) continue;
        let frame = all;
        frame.count += Number(count);
        for (const name of names.split(";")) {
            let next = frame.below.get(name);
            if (!next) frame.below.set(name, (next = { name, count: 0, below: new Map() }));
            next.count += Number(count);
            frame = next;
        }
    }
    return all;
}

function draw(frame: Frame, share: number): HTMLElement {
    const box = document.createElement("div");
    box.style.width = `${100 * share}%`;
    const title = document.createElement("p");
    title.textContent = `${frame.name} (${frame.count})`;
    const below = document.createElement("section");
    for (const each of frame.below.values()) below.append(draw(each, each.count / frame.count));
    box.append(title, below);
    return box;
}

fetch("stacks").then(async (answer) => document.body.append(draw(fold(await answer.text()), 1)));
