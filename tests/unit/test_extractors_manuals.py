"""Manual pages, documentation and proofs in their own markup: read as what they show."""

from __future__ import annotations

from docutils.core import publish_doctree
from hypothesis import given
from hypothesis import strategies as st
from pileline.sources.formats import MALFORMED, MISSING

from tests.unit.test_extractors import read, texts

MAN = r""".\" a comment
.TH CAT 1 2024-01-01 "Tools" "Manual"
.SH NAME
cat \- print files
.SH "MORE WORDS"
Prints
.I files
to the output, as
.BR more (1)
does. \fBBold\fP\(em\[lq]quoted\[rq] \\
.TP
.B \-n
number all
lines
.IP \(bu 2
a
.B
bullet
.de XX
never seen
..
.if t \{\
also not seen
.\}
.TS
table data
.TE
.nf
int  main(void)
{
.fi
.PP
Last
.br
line.
"""


def test_a_manual_page_is_set_as_plain_text() -> None:
    assert texts(MAN, format="man") == [
        "NAME\ncat - print files\n\nMORE WORDS\nPrints files to the output, as more(1) does. Bold—“quoted” \\\n\n"
        "-n\nnumber all lines\n\n•\na bullet\n\nint  main(void)\n{\n\nLast\nline."
    ]


def test_a_page_that_points_to_another_and_one_in_other_macros_are_counted() -> None:
    assert [record.reason for record in read(".so man3/printf.3\n", format="man")] == [MISSING]
    assert [record.reason for record in read(".Dd 2024\n.Dt CAT 1\n.Sh NAME\n", format="man")] == [MALFORMED]


def test_pod_is_read_as_it_shows() -> None:
    pod = (
        "#!perl\n\n=head1 NAME\nX<index>\n\ncat - B<prints I<files>>\n\n"
        "=over 4\n\n=item *\n\nC<<< a >> b >>> E<lt>\n\n"
        "=back\n\n    my $x =  C<1>;\n\n=begin html\n\n<hr>\n\n=end html\n\n"
        "See L<the manual|perl(1)>, L<perlop/Quote>.\n\n"
        "=cut\n\nprint 1;\n"
    )
    assert texts(pod, format="pod") == [
        "NAME\n\ncat - prints files\n\n* a >> b <\n\n    my $x =  C<1>;\n\nSee the manual, perlop, Quote."
    ]
    assert [record.reason for record in read("just text", format="pod")] == [MALFORMED]


RST = """\
:mod:`heapq` --- Heap queue
===========================

.. module:: heapq
   :synopsis: never seen

.. a comment
   in two lines

**Bold**, *emphasis
on two lines*, ``code *x*`` and `a link <https://x.org>`_, see :func:`~heapq.heappush`,
:ref:`the queue <queue>`, :pep:`263`. Example::

   x = *args  # `kept`

     and **this**

.. function:: heappush(heap, item)

   Push *item*.

   .. versionadded:: 3.5
   .. versionchanged:: 3.6
      Faster.

.. code-block:: python
   :linenos:

   print("``")

.. note:: Mind the gap.

.. [1] A footnote.

>>> *a, b = c

Done.
"""


def test_rst_is_read_as_it_shows() -> None:
    assert texts(RST, format="rst") == [
        """\
heapq --- Heap queue

Bold, emphasis
on two lines, code *x* and a link, see heappush,
the queue, PEP 263. Example:

   x = *args  # `kept`

     and **this**

heappush(heap, item)

   Push item.

   New in version 3.5.
   Changed in version 3.6.
      Faster.

   print("``")

Mind the gap.

[1] A footnote.

>>> *a, b = c

Done."""
    ]


@given(
    st.lists(
        st.sampled_from(["word", "*word*", "**bold**", "``a*b``", "`link <https://x.org/>`__", "1 * 2"]), min_size=1
    )
)
def test_a_paragraph_of_rst_reads_as_docutils_shows_it(words: list[str]) -> None:
    paragraph = "It " + " ".join(words) + " ends."
    shown = publish_doctree(paragraph, settings_overrides={"report_level": 5}).astext()
    assert texts(paragraph, format="rst") == [shown]


def test_the_comments_of_a_database_of_proofs() -> None:
    data = (
        "$( #*#*#\n  Part 1\n #*#*# $)\n$( Left side of ` ( A + B ) ` ; see ~ id and ~ http://x.org/~~me .\n"
        "   Next line.\n\n   New paragraph.  (Contributed by N. M., 5-Aug-1993.)"
        "  (Proof modification is discouraged.) $)\n"
        "id $p |- A $= a b $.\n$( old $p |- B $= c $. $)\n$( $j syntax 'x'; $)\n"
    )
    assert texts(data, format="metamath") == [
        "Left side of ( A + B ) ; see id and http://x.org/~me . Next line.\n\nNew paragraph."
    ]
