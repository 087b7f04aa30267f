//! A population's outcome as a picture: success by strategy, and how long it takes.

use std::fmt::Write;
use std::time::Duration;

use super::classes::Mix;
use super::tally::Tally;

const WIDTH: f64 = 960.0;
const ROW: f64 = 26.0;
const LEFT: f64 = 150.0;
const BAR: f64 = 560.0;
/// One for each strategy, told apart in grey too.
const COLOURS: [&str; 6] = [
    "#1b4f72", "#2e86c1", "#85c1e9", "#b9770e", "#f0b27a", "#cb4335",
];
const RELAYED: &str = "#d5d8dc";
/// The slowest that is drawn.
const SLOWEST: Duration = Duration::from_secs(16);
const PLOT: f64 = 220.0;

/// Draws the outcomes of some mixes as an SVG document.
#[must_use]
pub fn svg(outcomes: &[(&Mix, Tally)]) -> String {
    let mut out = String::new();
    // Writing to a String does not fail.
    let _ = write_all(&mut out, outcomes);
    out
}

fn write_all(out: &mut String, outcomes: &[(&Mix, Tally)]) -> std::fmt::Result {
    #[expect(clippy::cast_precision_loss, reason = "there are four mixes")]
    let rows = outcomes.len() as f64;
    let plot_top = 110.0 + rows * ROW + 60.0;
    let height = plot_top + PLOT + 60.0;
    writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"13\">"
    )?;
    writeln!(out, "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>")?;
    text(
        out,
        16.0,
        28.0,
        "start",
        17,
        "Pairs that become direct, by what opened the path",
    )?;
    write_legend(out, outcomes)?;
    let mut top = 100.0;
    for (mix, tally) in outcomes {
        write_bar(out, top, mix, tally)?;
        top += ROW;
    }
    text(
        out,
        16.0,
        plot_top - 18.0,
        "start",
        17,
        "Share of the direct pairs that are direct within so many seconds of the start",
    )?;
    write_curves(out, plot_top, outcomes)?;
    writeln!(out, "</svg>")
}

fn write_legend(out: &mut String, outcomes: &[(&Mix, Tally)]) -> std::fmt::Result {
    let Some((_, tally)) = outcomes.first() else {
        return Ok(());
    };
    let names = tally.opened.iter().map(|opened| opened.strategy.as_str());
    let entries = names.zip(COLOURS).chain([("relayed", RELAYED)]);
    let mut x = LEFT;
    for (name, colour) in entries {
        rect(out, x, 52.0, 12.0, 12.0, colour)?;
        text(out, x + 17.0, 63.0, "start", 13, name)?;
        x += 112.0;
    }
    text(
        out,
        LEFT,
        88.0,
        "start",
        12,
        "the black mark is what the oracle allows",
    )
}

fn write_bar(out: &mut String, top: f64, mix: &Mix, tally: &Tally) -> std::fmt::Result {
    text(out, LEFT - 8.0, top + 14.0, "end", 13, mix.name)?;
    let mut x = LEFT;
    for (opened, colour) in tally.opened.iter().zip(COLOURS) {
        let width = BAR * opened.share.percent() / 100.0;
        rect(out, x, top, width, ROW - 8.0, colour)?;
        x += width;
    }
    rect(out, x, top, LEFT + BAR - x, ROW - 8.0, RELAYED)?;
    let mark = LEFT + BAR * tally.allowed().percent() / 100.0;
    rect(out, mark - 1.0, top - 3.0, 2.0, ROW - 2.0, "black")?;
    let words = format!(
        "{:.2} % direct, {:.2} % of those allowed",
        tally.direct.percent(),
        tally.of_allowed.percent()
    );
    text(out, LEFT + BAR + 10.0, top + 14.0, "start", 12, &words)
}

fn write_curves(out: &mut String, top: f64, outcomes: &[(&Mix, Tally)]) -> std::fmt::Result {
    // Doublings of a quarter of a second, since what is slow is rare.
    let x_of = |at: f64| LEFT + BAR * ((at / 0.25).log2() / 6.0).clamp(0.0, 1.0);
    let y_of = |share: f64| top + PLOT * (1.0 - share);
    for quarter in 0..=4 {
        let share = f64::from(quarter) / 4.0;
        let y = y_of(share);
        rect(out, LEFT, y, BAR, 0.5, "#aab7b8")?;
        text(
            out,
            LEFT - 8.0,
            y + 4.0,
            "end",
            12,
            &format!("{:.0} %", 100.0 * share),
        )?;
    }
    for doubling in 0..=6 {
        let at = 0.25 * f64::from(1 << doubling);
        text(
            out,
            x_of(at),
            top + PLOT + 18.0,
            "middle",
            12,
            &format!("{at} s"),
        )?;
    }
    for (index, ((mix, tally), colour)) in outcomes.iter().zip(COLOURS).enumerate() {
        let mut points = String::new();
        let all = tally.times.len().max(1);
        for (nth, at) in tally.times.iter().enumerate() {
            // A hundred points a curve are enough for the eye.
            if nth % all.div_ceil(100) == 0 || nth + 1 == all {
                #[expect(clippy::cast_precision_loss, reason = "a population is small")]
                let share = (nth + 1) as f64 / all as f64;
                let at = (*at).min(SLOWEST).as_secs_f64();
                write!(points, "{:.1},{:.1} ", x_of(at), y_of(share))?;
            }
        }
        writeln!(
            out,
            "<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>"
        )?;
        #[expect(clippy::cast_precision_loss, reason = "there are four mixes")]
        let y = top + 20.0 + 20.0 * index as f64;
        rect(out, LEFT + BAR + 10.0, y - 9.0, 18.0, 3.0, colour)?;
        text(out, LEFT + BAR + 34.0, y - 3.0, "start", 13, mix.name)?;
    }
    Ok(())
}

fn rect(out: &mut String, x: f64, y: f64, width: f64, height: f64, fill: &str) -> std::fmt::Result {
    let width = width.max(0.0);
    writeln!(
        out,
        "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{fill}\"/>"
    )
}

fn text(
    out: &mut String,
    x: f64,
    y: f64,
    anchor: &str,
    size: u32,
    words: &str,
) -> std::fmt::Result {
    writeln!(
        out,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" font-size=\"{size}\">{words}</text>"
    )
}
